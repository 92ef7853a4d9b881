//! What a container is asked to be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::devices::Device;
use crate::mounts::Mount;
use crate::resources::Resources;
use crate::user::Ids;

/// Everything that decides a container's spec. The default is an unprivileged container with private namespaces.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Complete: see [`crate::env::container_env`].
    pub env: Vec<String>,
    /// `/` if empty.
    pub cwd: String,
    /// Who runs it: see [`crate::user::resolve`].
    pub user: Ids,
    /// Whether the process gets a pseudo-terminal.
    pub terminal: bool,
    /// Height and width in characters; only with a terminal.
    pub console_size: Option<(u64, u64)>,
    /// Not set in the host's UTS namespace.
    pub hostname: String,
    /// None if empty.
    pub domainname: String,
    /// The root filesystem, absolute or relative to the bundle.
    pub root: PathBuf,
    /// `--read-only`
    pub readonly_root: bool,
    /// Volumes, binds, tmpfs and the engine's own files; in any order.
    pub mounts: Vec<Mount>,
    /// A host program put before the command as process 1 (`--init`); left out without a private PID namespace.
    pub init: Option<PathBuf>,
    /// `--privileged`
    pub privileged: bool,
    /// With or without `CAP_`, any case, or `ALL`.
    pub cap_add: Vec<String>,
    /// With or without `CAP_`, any case, or `ALL`.
    pub cap_drop: Vec<String>,
    /// Which system calls are allowed.
    pub seccomp: SeccompChoice,
    /// `--security-opt no-new-privileges`
    pub no_new_privileges: bool,
    /// The profile's name, on hosts with AppArmor.
    pub apparmor: Option<String>,
    /// The process' label.
    pub selinux_process_label: Option<String>,
    /// The mounts' label.
    pub selinux_mount_label: Option<String>,
    /// In the place of [`crate::paths::MASKED`] and what the host adds.
    pub masked_paths: Option<Vec<String>>,
    /// In the place of [`crate::paths::READONLY`].
    pub readonly_paths: Option<Vec<String>>,
    /// Whether /sys/fs/cgroup can be written; none follows `privileged`.
    pub writable_cgroups: Option<bool>,
    /// Which namespaces are its own.
    pub namespaces: Namespaces,
    /// Bytes of /dev/shm; 0 is 64 MiB.
    pub shm_size: u64,
    /// From [`crate::devices::resolve`]; for privileged containers with [`crate::devices::all_of_host`] before them.
    pub devices: Vec<Device>,
    /// `c 10:* rwm` and the like.
    pub device_cgroup_rules: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// Over the two network ones that every container with its own network has.
    pub sysctls: BTreeMap<String, String>,
    /// The daemon's defaults already merged in.
    pub ulimits: Vec<Ulimit>,
    /// From -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Put into the spec as they are.
    pub annotations: BTreeMap<String, String>,
    /// `/wharf/<id>`, or `slice:prefix:name` for systemd.
    pub cgroups_path: String,
}

/// Which system calls are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SeccompChoice {
    /// Docker's profile; none for privileged containers.
    #[default]
    Default,
    /// Every one.
    Unconfined,
    /// A profile in Docker's JSON form.
    Profile(String),
}

/// Which namespace of a kind a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Join {
    /// A new one of its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of a file, such as `/proc/PID/ns/net` or a pinned one.
    Path(PathBuf),
}

/// The namespaces of a container. The mount namespace is always its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Processes.
    pub pid: Join,
    /// Network.
    pub network: Join,
    /// System V IPC, POSIX queues and shared memory.
    pub ipc: Join,
    /// Private IPC without /dev/shm (`--ipc none`).
    pub ipc_none: bool,
    /// Host name.
    pub uts: Join,
    /// View of cgroups.
    pub cgroup: Join,
    /// Id mappings; none is the host's user namespace.
    pub user: Option<IdMaps>,
}

/// How ids of the container are ids of the host: (container id, host id, count).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<(u32, u32, u32)>,
    /// Groups.
    pub gids: Vec<(u32, u32, u32)>,
}

/// A resource limit as Docker spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Such as `nofile`.
    pub name: String,
    /// -1 is unlimited.
    pub soft: i64,
    /// -1 is unlimited.
    pub hard: i64,
}
