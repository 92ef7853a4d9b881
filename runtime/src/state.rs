//! What is kept of a container between commands: `<root>/<id>/state.json`.

mod lock;

pub use lock::Lock;

use crate::pid::ProcessId;
use crate::plan::ContainerPlan;
use crate::timestamp;
use oci_spec::runtime::Hooks;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use wharf_cgroups::{Paths, Plan as CgroupPlan};

/// Raised when the record changes so that an older runw could misread it.
const SCHEMA: u32 = 1;
/// runc's bound.
const MAX_ID: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("container does not exist")]
    NotFound,
    #[error("container with given ID already exists")]
    Exists,
    #[error("invalid container ID format")]
    BadId,
    #[error("{act} {path}: {source}")]
    Io { act: &'static str, path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("{path}: schema {found} is unknown to this version of runw, which knows {SCHEMA}")]
    Schema { path: PathBuf, found: u32 },
}

/// Everything later commands need to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub schema: u32,
    pub id: String,
    /// None while the container is being created.
    pub init: Option<ProcessId>,
    /// RFC 3339.
    pub created: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub oci_version: String,
    pub annotations: HashMap<String, String>,
    pub cgroup: Paths,
    /// What the cgroup is to systemd, where systemd made it.
    #[serde(default)]
    pub unit: Option<wharf_cgroups::systemd::Unit>,
    /// CLONE_NEW* bits of what the container does not share with the host.
    pub namespaces: u64,
    pub hooks: Option<Hooks>,
}

impl Record {
    pub const SCHEMA: u32 = SCHEMA;

    /// Of a container whose creation begins now: it has no init yet.
    pub fn begun(id: &str, bundle: PathBuf, plan: &ContainerPlan, cgroup: &CgroupPlan) -> Self {
        Record {
            schema: Record::SCHEMA,
            id: id.to_owned(),
            init: None,
            created: timestamp::nanos(std::time::SystemTime::now()),
            bundle,
            rootfs: plan.rootfs.clone(),
            oci_version: plan.oci_version.clone(),
            annotations: plan.annotations.clone(),
            cgroup: cgroup.paths().clone(),
            unit: cgroup.unit().cloned(),
            namespaces: plan.namespaces.private.bits(),
            hooks: Some(plan.hooks.clone()),
        }
    }
}

/// The directory of all containers (`--root`).
#[derive(Debug, Clone)]
pub struct StateRoot(PathBuf);

/// The directory of one container.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

/// An id is a file name of letters, digits and `_ + - .`
pub fn check_id(id: &str) -> Result<(), StateError> {
    let valid = !id.is_empty()
        && id.len() <= MAX_ID
        && id != "."
        && id != ".."
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "_+-.".contains(c));
    if valid { Ok(()) } else { Err(StateError::BadId) }
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { act, path, source }
}

impl StateRoot {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory of a container that exists.
    pub fn get(&self, id: &str) -> Result<StateDir, StateError> {
        check_id(id)?;
        let dir = self.0.join(id);
        if !dir.join("state.json").exists() {
            return Err(StateError::NotFound);
        }
        Ok(StateDir(dir))
    }

    /// The directory of an id, whatever is or is not in it: for cleaning up.
    pub fn any(&self, id: &str) -> Result<StateDir, StateError> {
        check_id(id)?;
        Ok(StateDir(self.0.join(id)))
    }

    /// Makes the directory of a new container. This is what claims the id: of two, one gets an error.
    pub fn create(&self, id: &str) -> Result<StateDir, StateError> {
        check_id(id)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(failed("creating", &self.0))?;
        let dir = self.0.join(id);
        match fs::DirBuilder::new().mode(0o711).create(&dir) {
            Ok(()) => Ok(StateDir(dir)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(StateError::Exists),
            Err(e) => Err(failed("creating", &dir)(e)),
        }
    }

    /// Ids and owners (uids) of all containers, sorted.
    pub fn list(&self) -> Result<Vec<(String, u32)>, StateError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed("reading", &self.0)(e)),
        };
        let mut out = Vec::new();
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if let Ok(name) = entry.file_name().into_string()
                && meta.is_dir()
                && check_id(&name).is_ok()
            {
                out.push((name, meta.uid()));
            }
        }
        out.sort();
        Ok(out)
    }
}

impl StateDir {
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn fifo(&self) -> PathBuf {
        self.0.join("exec.fifo")
    }
    /// The config.json as it was at create.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    pub fn load(&self) -> Result<Record, StateError> {
        let path = self.0.join("state.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StateError::NotFound),
            Err(e) => return Err(failed("reading", &path)(e)),
        };
        #[derive(Deserialize)]
        struct Versioned {
            schema: u32,
        }
        let damaged = |source| StateError::Damaged { path: path.clone(), source };
        let found = serde_json::from_slice::<Versioned>(&text).map_err(damaged)?.schema;
        if found != SCHEMA {
            return Err(StateError::Schema { path, found });
        }
        serde_json::from_slice(&text).map_err(damaged)
    }

    /// Replaces the record: written beside and renamed, so that a reader sees the old or the new one, whole.
    pub fn save(&self, record: &Record) -> Result<(), StateError> {
        let path = self.0.join("state.json");
        let text = serde_json::to_vec(record)
            .map_err(|source| StateError::Damaged { path: path.clone(), source })?;
        let new = self.0.join("state.json.new");
        write_private(&new, &text).map_err(failed("writing", &new))?;
        fs::rename(&new, &path).map_err(failed("renaming", &new))
    }

    /// Keeps the config for `exec`, which takes its defaults from it.
    pub fn save_config(&self, text: &[u8]) -> Result<(), StateError> {
        let path = self.config();
        write_private(&path, text).map_err(failed("writing", &path))
    }

    /// Removes the directory; one that is gone already is fine.
    pub fn remove(&self) -> Result<(), StateError> {
        match fs::remove_dir_all(&self.0) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("removing", &self.0)(e)),
            _ => Ok(()),
        }
    }
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            schema: SCHEMA,
            id: "a".into(),
            init: Some(ProcessId { pid: 1, start: 2 }),
            created: String::new(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            oci_version: "1.0.2".into(),
            annotations: HashMap::new(),
            cgroup: Paths::default(),
            unit: None,
            namespaces: 0,
            hooks: None,
        }
    }

    #[test]
    fn an_id_is_claimed_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::new(dir.path().join("deep/root"));
        let state = root.create("a").unwrap();
        assert!(matches!(root.create("a"), Err(StateError::Exists)));
        assert!(matches!(root.get("a"), Err(StateError::NotFound)));
        state.save(&record()).unwrap();
        assert_eq!(root.get("a").unwrap().load().unwrap().init, record().init);
        state.remove().unwrap();
        state.remove().unwrap();
        assert!(matches!(root.get("a"), Err(StateError::NotFound)));
    }

    #[test]
    fn ids_cannot_be_paths() {
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\0"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "A-1_2+3.4", "...", &"x".repeat(64)] {
            assert!(check_id(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_later_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateRoot::new(dir.path()).create("a").unwrap();
        state.save(&Record { schema: 9, ..record() }).unwrap();
        assert!(matches!(state.load(), Err(StateError::Schema { found: 9, .. })));
    }

    #[test]
    fn a_damaged_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateRoot::new(dir.path()).create("a").unwrap();
        fs::write(state.path().join("state.json"), "{").unwrap();
        assert!(state.load().unwrap_err().to_string().contains("state.json"));
    }
}
