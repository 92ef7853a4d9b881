//! The engine's durable records.

use std::path::Path;

use serde::{Deserialize, Serialize};
use wharf_store::{Database, Schema, StoreError, Table};

use crate::container::exec::ExecRecord;
use crate::container::record::Record;
use crate::volume::VolumeRecord;

const CONTAINERS: Table<Record> = Table::new("containers", 1);
/// Keys: container, exec.
const EXECS: Table<ExecRecord> = Table::new("execs", 2);
const VOLUMES: Table<VolumeRecord> = Table::new("volumes", 1);
const FACTS: Table<Facts> = Table::new("facts", 1);

/// What the engine is, once for its data root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// The `ID` of `docker info`.
    pub engine_id: String,
}

/// The database. Every change is durable when its call returns.
#[derive(Clone)]
pub struct Records {
    database: Database,
}

impl Records {
    /// Opens or creates the database.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open(path, Schema { name: "engine", version: 1 })? })
    }

    async fn change<F>(&self, change: F) -> Result<(), StoreError>
    where
        F: FnOnce(&wharf_store::Write) -> Result<(), StoreError> + Send + 'static,
    {
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || database.write(change)).await;
        // a panic in the database is one here
        match done {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Every container.
    pub fn containers(&self) -> Result<Vec<Record>, StoreError> {
        let view = self.database.view()?;
        Ok(CONTAINERS.list(&view, &[])?.into_iter().map(|(_, record)| record).collect())
    }

    /// Every exec.
    pub fn execs(&self) -> Result<Vec<ExecRecord>, StoreError> {
        let view = self.database.view()?;
        Ok(EXECS.list(&view, &[])?.into_iter().map(|(_, record)| record).collect())
    }

    /// Every volume.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>, StoreError> {
        let view = self.database.view()?;
        Ok(VOLUMES.list(&view, &[])?.into_iter().map(|(_, record)| record).collect())
    }

    pub async fn put_container(&self, record: &Record) -> Result<(), StoreError> {
        let record = record.clone();
        self.change(move |tx| CONTAINERS.put(tx, &[&record.id], &record).map(|_| ())).await
    }

    /// Deletes a container's record and those of its execs.
    pub async fn delete_container(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.change(move |tx| {
            CONTAINERS.remove(tx, &[&id])?;
            EXECS.remove_all(tx, &[&id]).map(|_| ())
        })
        .await
    }

    pub async fn put_exec(&self, record: &ExecRecord) -> Result<(), StoreError> {
        let record = record.clone();
        self.change(move |tx| EXECS.put(tx, &[&record.container_id, &record.id], &record).map(|_| ())).await
    }

    pub async fn delete_execs(&self, container_id: &str, ids: Vec<String>) -> Result<(), StoreError> {
        let container_id = container_id.to_owned();
        self.change(move |tx| {
            for id in &ids {
                EXECS.remove(tx, &[&container_id, id])?;
            }
            Ok(())
        })
        .await
    }

    pub async fn put_volume(&self, record: &VolumeRecord) -> Result<(), StoreError> {
        let record = record.clone();
        self.change(move |tx| VOLUMES.put(tx, &[&record.name], &record).map(|_| ())).await
    }

    pub async fn delete_volume(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.change(move |tx| VOLUMES.remove(tx, &[&name]).map(|_| ())).await
    }

    /// The engine's id, made at the first call.
    pub fn engine_id(&self) -> Result<String, StoreError> {
        if let Some(facts) = FACTS.get(&self.database.view()?, &["engine"])? {
            return Ok(facts.engine_id);
        }
        let engine_id = uuid();
        let facts = Facts { engine_id: engine_id.clone() };
        self.database.write(|tx| FACTS.put(tx, &["engine"], &facts).map(|_| ()))?;
        Ok(engine_id)
    }
}

/// A random id in the form of a version 4 UUID.
fn uuid() -> String {
    let hex = crate::id::random_hex(16);
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
