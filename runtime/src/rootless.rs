//! Running as an ordinary user, or as root of a user namespace: what the kernel then refuses and how it is got round.

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::plan::namespaces::NamespacePlan;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, capabilities};
use wharf_cgroups::CgroupError;
use wharf_sys::namespace::Namespaces;

/// Where the state is kept unless --root says otherwise.
const DEFAULT_ROOT: &str = "/run/wharf/runw";
/// uid_map of the host's own user namespace (user_namespaces(7)).
const WHOLE: [&str; 3] = ["0", "0", "4294967295"];

/// Whether this process is in a user namespace other than the host's. Looked up once: later /proc may be a container's.
pub fn in_user_namespace() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        // without user namespaces in the kernel there is no such file
        std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_partial(&map))
    })
}

fn is_partial(map: &str) -> bool {
    !map.split_whitespace().eq(WHOLE)
}

/// Whether this process may mount in its own mount namespace, enter namespaces and map any ids.
pub fn may_administer() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Whether what a container needs of its namespaces is made by init, which is root in its own user namespace, since this
/// process has no right to.
pub fn init_makes_rootfs(namespaces: &NamespacePlan) -> bool {
    namespaces.clone.contains(Namespaces::USER) && !may_administer()
}

/// Whether this process lacks rights over the host: an ordinary user, or root of a user namespace.
///
/// Looked up once: who enters a user namespace later does not gain any.
pub fn is_unprivileged() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| !rustix::process::geteuid().is_root() || in_user_namespace())
}

/// `--rootless`: whether a cgroup that cannot be made for want of rights is done without.
pub fn tolerates_cgroups(flag: &str) -> Result<bool, String> {
    match flag {
        "auto" => Ok(is_unprivileged()),
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        other => Err(format!("--rootless: {other:?} is neither true, false nor auto")),
    }
}

/// Whether an error of making a cgroup is one that is done without.
pub fn is_forgivable(error: &CgroupError) -> bool {
    match error {
        CgroupError::Io { source, .. } | CgroupError::Write { source, .. } => {
            matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        }
        _ => false,
    }
}

/// The directory of all containers if none is given: `$XDG_RUNTIME_DIR/runw` for an ordinary user, as with runc also for
/// the root of a user namespace unless USER says root.
pub fn default_root() -> PathBuf {
    let honoured = !rustix::process::geteuid().is_root()
        || (in_user_namespace() && std::env::var_os("USER").is_none_or(|user| user != "root"));
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if honoured && !dir.is_empty() => PathBuf::from(dir).join("runw"),
        _ => DEFAULT_ROOT.into(),
    }
}

/// Lets others of the same user look into this process, and write its mappings; taken back with [`close`].
pub fn open() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

/// Nobody looks into this process.
pub fn close() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Writes this process's OOM score. The file of a process that nobody may look into is root's, so this is for between
/// [`open`] and [`close`].
pub fn own_oom_score(score: Option<i32>) -> io::Result<()> {
    let Some(score) = score else { return Ok(()) };
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_range_is_the_hosts_namespace() {
        assert!(!is_partial("         0          0 4294967295\n"));
        assert!(is_partial("         0       1000          1\n"));
        assert!(is_partial("0 1000 1\n1 100000 65536\n"));
        assert!(is_partial(""));
    }

    #[test]
    fn the_flag_takes_three_values() {
        assert_eq!(tolerates_cgroups("true"), Ok(true));
        assert_eq!(tolerates_cgroups("false"), Ok(false));
        assert!(tolerates_cgroups("auto").is_ok());
        assert!(tolerates_cgroups("maybe").unwrap_err().contains("\"maybe\""));
    }
}
