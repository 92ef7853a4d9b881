//! The parts of config.json at its top, for Linux.
//!
//! The same as `oci_spec::runtime::{Spec, Process}` but for what other systems have there, and for CPU lists, which are
//! judged by the plan: parsing these types does not bring in a regular expression engine and the fields of three more
//! systems, a fifth of the program.

use oci_spec::runtime::{
    Hooks, Linux, LinuxCapabilities, LinuxIOPriority, Mount, PosixRlimit, Root, Scheduler, User,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

/// config.json (runtime-spec, "Configuration").
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    #[serde(rename = "ociVersion")]
    pub version: String,
    pub root: Option<Root>,
    pub mounts: Option<Vec<Mount>>,
    pub process: Option<Process>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub hooks: Option<Hooks>,
    pub annotations: Option<HashMap<String, String>>,
    pub linux: Option<Linux>,
}

/// `process`, or what `exec --process` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub terminal: Option<bool>,
    pub console_size: Option<oci_spec::runtime::Box>,
    /// Root if it is not given: the specification's schema does not require it.
    #[serde(default)]
    pub user: User,
    pub args: Option<Vec<String>>,
    pub env: Option<Vec<String>>,
    pub cwd: PathBuf,
    pub capabilities: Option<LinuxCapabilities>,
    pub rlimits: Option<Vec<PosixRlimit>>,
    pub no_new_privileges: Option<bool>,
    pub apparmor_profile: Option<String>,
    pub oom_score_adj: Option<i32>,
    pub selinux_label: Option<String>,
    pub io_priority: Option<LinuxIOPriority>,
    pub scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

/// `process.execCPUAffinity`: lists of CPUs such as `0-3,7`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ExecCpuAffinity {
    pub initial: Option<String>,
    #[serde(rename = "final")]
    pub last: Option<String>,
}
