//! What the engine is told when it starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wharf_docker::container::{LogConfig, Ulimit};

use crate::id::short;

/// Our own shim.
pub const WHARF_RUNTIME: &str = "io.containerd.wharf.v2";
/// Docker's name for the runtime that is used when nothing else is said.
pub const DEFAULT_RUNTIME: &str = "runw";

/// A runtime that containers can be run with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runtime {
    /// The shim's name, such as `io.containerd.wharf.v2`.
    pub shim: String,
    /// The OCI runtime's program; empty lets the shim choose.
    pub program: String,
}

/// The engine's settings; they do not change while it runs.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    pub data_root: PathBuf,
    pub exec_root: PathBuf,
    /// Parent of containers' cgroups, such as `/wharf`.
    pub cgroup_parent: String,
    pub default_runtime: String,
    pub runtimes: BTreeMap<String, Runtime>,
    /// Log driver and options of containers that name none.
    pub log: LogConfig,
    pub default_ulimits: Vec<Ulimit>,
    /// Bytes of /dev/shm for containers that do not say.
    pub default_shm_size: i64,
    /// Seconds between stop's signal and the kill, for containers that do not say.
    pub default_stop_timeout: i64,
    pub no_new_privileges: bool,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
}

impl EngineConfig {
    /// Everything at its default under two roots.
    pub fn new(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>) -> Self {
        let ours = Runtime { shim: WHARF_RUNTIME.to_owned(), program: String::new() };
        let runc = Runtime { shim: "io.containerd.runc.v2".to_owned(), program: String::new() };
        Self {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            cgroup_parent: "/wharf".to_owned(),
            default_runtime: DEFAULT_RUNTIME.to_owned(),
            runtimes: BTreeMap::from([
                (DEFAULT_RUNTIME.to_owned(), ours.clone()),
                (ours.shim.clone(), ours),
                (runc.shim.clone(), runc),
            ]),
            log: LogConfig { r#type: "json-file".to_owned(), config: BTreeMap::new() },
            default_ulimits: Vec::new(),
            default_shm_size: 64 << 20,
            default_stop_timeout: 10,
            no_new_privileges: false,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
        }
    }

    /// The runtime of that name; shims may be named directly (`io.containerd.….v2`).
    pub fn runtime(&self, name: &str) -> Option<Runtime> {
        let name = if name.is_empty() { &self.default_runtime } else { name };
        if let Some(runtime) = self.runtimes.get(name) {
            return Some(runtime.clone());
        }
        let is_shim = name.matches('.').count() >= 2 && !name.contains('/');
        is_shim.then(|| Runtime { shim: name.to_owned(), program: String::new() })
    }

    /// Directory of what a container leaves on disk.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.data_root.join("containers").join(id)
    }

    /// The container's log.
    pub fn log_path(&self, id: &str) -> PathBuf {
        self.container_dir(id).join(format!("{id}-json.log"))
    }

    /// Directory of the sockets and pipes of a container's processes. Short, since socket paths are.
    pub fn stdio_dir(&self, id: &str) -> PathBuf {
        self.exec_root.join("io").join(short(id))
    }

    /// Attach socket of a container's first process (`exec` empty) or of an exec.
    pub fn attach_path(&self, id: &str, exec: &str) -> PathBuf {
        let name = if exec.is_empty() { "init" } else { short(exec) };
        self.stdio_dir(id).join(name)
    }

    /// State directory of OCI runtimes.
    pub fn runtime_root(&self) -> PathBuf {
        self.exec_root.join("runw")
    }

    /// Directory of local volumes.
    pub fn volumes_dir(&self) -> PathBuf {
        self.data_root.join("volumes")
    }

    /// The engine's database.
    pub fn database_path(&self) -> PathBuf {
        self.data_root.join("engine.redb")
    }
}

/// A path as text; what is not UTF-8 cannot travel in JSON and is replaced.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
