//! Capabilities by name.

/// What every container has.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Every capability by its number (include/uapi/linux/capability.h).
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A name that cannot be granted. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    /// No such capability.
    #[error("unknown capability: {0:?}")]
    Unknown(String),
    /// The daemon itself does not have it.
    #[error("capability not supported by your kernel or not available in the current environment: {0:?}")]
    Unavailable(String),
}

/// The names of a bit set.
pub fn names(bits: u64) -> Vec<String> {
    (0u32..).zip(ALL).filter(|(i, _)| bits >> i & 1 == 1).map(|(_, n)| n.to_owned()).collect()
}

/// The default set with `add` and `drop` applied as Docker does: adding ALL gives all that is `available` but the
/// dropped, dropping ALL leaves the added, else drops come before adds. Privileged is all that is available.
pub fn tweak(
    add: &[String],
    drop: &[String],
    privileged: bool,
    available: &[String],
) -> Result<Vec<String>, CapError> {
    if privileged {
        return Ok(available.to_vec());
    }
    let add = normalize(add, available)?;
    let drop = normalize(drop, available)?;
    let has = |list: &[String], name: &str| list.iter().any(|c| c == name);
    let mut out: Vec<String> = if has(&add, "ALL") {
        available.iter().filter(|c| !has(&drop, c)).cloned().collect()
    } else if has(&drop, "ALL") {
        add
    } else {
        let kept = DEFAULT.iter().filter(|c| !has(&drop, c)).map(|c| (*c).to_owned());
        kept.chain(add).collect()
    };
    let mut seen = std::collections::BTreeSet::new();
    out.retain(|c| seen.insert(c.clone()));
    Ok(out)
}

fn normalize(names: &[String], available: &[String]) -> Result<Vec<String>, CapError> {
    names
        .iter()
        .map(|given| {
            let mut name = given.to_ascii_uppercase();
            if name == "ALL" {
                return Ok(name);
            }
            if !name.starts_with("CAP_") {
                name.insert_str(0, "CAP_");
            }
            if !ALL.contains(&name.as_str()) {
                return Err(CapError::Unknown(name));
            }
            if !available.contains(&name) {
                return Err(CapError::Unavailable(name));
            }
            Ok(name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|s| (*s).to_owned()).collect()
    }

    fn all() -> Vec<String> {
        list(&ALL)
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(names(1 << 21 | 1), ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
        assert_eq!(names(1 << 40), ["CAP_CHECKPOINT_RESTORE"]);
        assert_eq!(names(u64::MAX).len(), 41);
    }

    #[test]
    fn nothing_asked_is_dockers_default() {
        assert_eq!(tweak(&[], &[], false, &all()).unwrap(), DEFAULT);
    }

    #[test]
    fn names_are_taken_with_and_without_prefix_in_any_case() {
        let got = tweak(&list(&["net_admin", "CAP_SYS_TIME"]), &list(&["Chown"]), false, &all()).unwrap();
        assert!(got.contains(&"CAP_NET_ADMIN".into()) && got.contains(&"CAP_SYS_TIME".into()));
        assert!(!got.contains(&"CAP_CHOWN".into()));
    }

    #[test]
    fn all_is_everything_but_the_dropped_or_nothing_but_the_added() {
        let got = tweak(&list(&["all"]), &list(&["SYS_ADMIN"]), false, &all()).unwrap();
        assert_eq!(got.len(), 40);
        assert_eq!(tweak(&list(&["KILL"]), &list(&["ALL"]), false, &all()).unwrap(), ["CAP_KILL"]);
        assert_eq!(tweak(&list(&["KILL", "KILL"]), &[], false, &all()).unwrap().len(), 14);
    }

    #[test]
    fn unknown_and_unavailable_names_are_told_apart() {
        let error = tweak(&list(&["fly"]), &[], false, &all()).unwrap_err();
        assert_eq!(error.to_string(), "unknown capability: \"CAP_FLY\"");
        let error = tweak(&list(&["SYS_ADMIN"]), &[], false, &list(&["CAP_KILL"])).unwrap_err();
        assert!(matches!(error, CapError::Unavailable(_)));
    }

    #[test]
    fn privileged_gets_what_is_available_and_not_more() {
        assert_eq!(tweak(&[], &[], true, &list(&["CAP_KILL"])).unwrap(), ["CAP_KILL"]);
    }
}
