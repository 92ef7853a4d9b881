//! A container: its bundle, its runtime, its init and its execs.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::Deserialize;
use wharf_cgroups::Cgroup;
use wharf_kinds::Kind;

use super::process::Process;
use crate::error::TaskError;
use crate::reaper::Exit;
use crate::runtime::Runtime;

/// Bytes of `config.json` that are read at most.
const MAX_SPEC: u64 = 64 * 1024 * 1024;

/// See the module.
pub(super) struct Container {
    pub id: String,
    pub bundle: PathBuf,
    pub runtime: Runtime,
    /// Where the shim mounted the root filesystem, if it did.
    pub rootfs: Option<PathBuf>,
    /// Whether the kernel kills every other process when the init ends.
    pub own_pids: bool,
    /// Owner of stdio pipes.
    pub io_owner: (u32, u32),
    pub init: Arc<Process>,
    /// Of one that is restored it is known once it runs.
    pub cgroup: OnceLock<Cgroup>,
    /// Held while the runtime changes the container: start, pause, resume, update, delete.
    pub change: Mutex<()>,
    execs: Mutex<Execs>,
}

/// The execs, and what the init's end has to wait for.
#[derive(Default)]
pub(super) struct Execs {
    /// By id. `None` while one is being added.
    pub known: HashMap<String, Option<Arc<Process>>>,
    /// Execs being started or running.
    pub running: usize,
    /// No more may start.
    pub init_ended: bool,
    /// The init's end, held back until no exec is running: it is announced last.
    pub held: Option<Exit>,
}

impl Container {
    #[allow(clippy::too_many_arguments)] // a plain constructor
    pub(super) fn new(
        id: String,
        bundle: PathBuf,
        runtime: Runtime,
        rootfs: Option<PathBuf>,
        own_pids: bool,
        io_owner: (u32, u32),
        init: Process,
        cgroup: Option<Cgroup>,
    ) -> Container {
        let (change, execs) = (Mutex::default(), Mutex::default());
        let init = Arc::new(init);
        let cgroup = cgroup.map_or_else(OnceLock::new, OnceLock::from);
        Container { id, bundle, runtime, rootfs, own_pids, io_owner, init, cgroup, change, execs }
    }

    pub(super) fn execs(&self) -> MutexGuard<'_, Execs> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The init for an empty id, else the exec.
    pub(super) fn process(&self, exec_id: &str) -> Result<Arc<Process>, TaskError> {
        if exec_id.is_empty() {
            return Ok(Arc::clone(&self.init));
        }
        let found = self.execs().known.get(exec_id).cloned().flatten();
        found.ok_or_else(|| TaskError::new(Kind::NotFound, format_args!("process does not exist {exec_id}")))
    }

    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The few facts of a bundle's `config.json` that the shim acts on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SpecFacts {
    /// The container gets a process namespace of its own.
    pub own_pids: bool,
    /// The group that shares a shim, by the annotations of containerd and of the kubelet's CRI.
    pub group: Option<String>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: HashMap<String, String>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

impl SpecFacts {
    /// Reads them from a bundle.
    ///
    /// # Errors
    /// If `config.json` is too long or no spec. The bundle of a sandbox may have none.
    pub(crate) fn read(bundle: &Path) -> std::io::Result<SpecFacts> {
        let file = match File::open(bundle.join("config.json")) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(SpecFacts::default()),
            file => file?,
        };
        let spec: Spec = serde_json::from_reader(BufReader::new(file.take(MAX_SPEC)))?;
        let namespaces = spec.linux.map(|l| l.namespaces).unwrap_or_default();
        let group = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
        Ok(SpecFacts {
            own_pids: namespaces.iter().any(|n| n.kind == "pid" && n.path.is_empty()),
            group: group.iter().find_map(|key| spec.annotations.get(*key).cloned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_a_spec_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let facts = |text: &str| {
            std::fs::write(dir.path().join("config.json"), text).unwrap();
            SpecFacts::read(dir.path()).unwrap()
        };
        assert_eq!(facts("{}"), SpecFacts::default());
        let own = r#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}"#;
        assert!(facts(own).own_pids);
        assert!(!facts(r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}"#).own_pids);
        let pod = r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#;
        assert_eq!(facts(pod).group.as_deref(), Some("pod"));
    }
}
