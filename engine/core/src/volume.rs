//! Local volumes: a directory each, under the data root.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wharf_docker::time::Time;

use crate::config::EngineConfig;
use crate::engine::Shared;
use crate::error::EngineError;
use crate::records::Records;

/// A volume's durable record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    pub name: String,
    pub created: Time,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Made for one container, without a name of its own.
    #[serde(default)]
    pub anonymous: bool,
}

/// Every volume, in memory.
pub struct Volumes {
    all: Mutex<BTreeMap<String, VolumeRecord>>,
}

impl Volumes {
    pub(crate) fn load(records: &Records) -> Result<Self, EngineError> {
        let all = records.volumes()?.into_iter().map(|record| (record.name.clone(), record)).collect();
        Ok(Self { all: Mutex::new(all) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, VolumeRecord>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every volume, by name.
    pub fn all(&self) -> Vec<VolumeRecord> {
        self.lock().values().cloned().collect()
    }

    /// One volume.
    pub fn get(&self, name: &str) -> Option<VolumeRecord> {
        self.lock().get(name).cloned()
    }

    /// Where a volume's data is.
    pub fn path(config: &EngineConfig, name: &str) -> PathBuf {
        config.volumes_dir().join(name).join("_data")
    }

    /// Makes a volume, or finds the one of that name; true if it was made.
    pub(crate) async fn ensure(
        &self,
        shared: &Shared,
        name: &str,
        anonymous: bool,
        labels: BTreeMap<String, String>,
    ) -> Result<bool, EngineError> {
        check_name(name)?;
        if self.lock().contains_key(name) {
            return Ok(false);
        }
        let path = Self::path(&shared.config, name);
        std::fs::create_dir_all(&path).map_err(|e| EngineError::host(format!("make volume {name}"), e))?;
        let record = VolumeRecord {
            name: name.to_owned(),
            created: Time::now(),
            labels,
            options: BTreeMap::new(),
            anonymous,
        };
        shared.records.put_volume(&record).await?;
        self.lock().insert(name.to_owned(), record);
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        shared.events.publish("volume", "create", name, attributes, std::time::SystemTime::now());
        Ok(true)
    }

    /// Removes a volume that no container uses; what fails is logged.
    pub(crate) async fn remove_unused(&self, shared: &Shared, name: &str) {
        // the container being removed is still registered, so one user is it
        let users = shared
            .registry
            .all()
            .iter()
            .filter(|handle| handle.view().record.mounts.iter().any(|mount| mount.name == name))
            .count();
        if users > 1 {
            return;
        }
        let path = shared.config.volumes_dir().join(name);
        match tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path)).await {
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(volume = name, %error, "volume was not removed");
                return;
            }
            _ => {}
        }
        if let Err(error) = shared.records.delete_volume(name).await {
            tracing::warn!(volume = name, %error, "volume's record was not removed");
            return;
        }
        self.lock().remove(name);
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        shared.events.publish("volume", "destroy", name, attributes, std::time::SystemTime::now());
    }
}

/// Refuses names that are not `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, in Docker's words.
pub fn check_name(name: &str) -> Result<(), EngineError> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && name.len() >= 2 && name.len() <= 255 {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
         allowed. If you intended to pass a host directory, use absolute path"
    )))
}
