//! Whether restored processes have only what config.json gives. CRIU takes their namespaces, rights and filters from the
//! images; looked at while they are all stopped, so that nothing changes under the look.

mod identity;

use super::Options;
use crate::container::ContainerError;
use crate::plan::ContainerPlan;
use crate::plan::capabilities::{CapSets, ORDER};
use identity::Ids;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use wharf_cgroups::Cgroup;
use wharf_sys::namespace::Namespaces;

/// As the links in /proc/PID/ns are called.
const KINDS: [(Namespaces, &str); 8] = [
    (Namespaces::MOUNT, "mnt"),
    (Namespaces::PID, "pid"),
    (Namespaces::NET, "net"),
    (Namespaces::IPC, "ipc"),
    (Namespaces::UTS, "uts"),
    (Namespaces::USER, "user"),
    (Namespaces::CGROUP, "cgroup"),
    (Namespaces::TIME, "time"),
];

fn refused(text: String) -> ContainerError {
    ContainerError::Refused(format!("the checkpoint is refused: {text}"))
}

fn namespace(pid: &str, name: &str) -> Result<String, ContainerError> {
    let path = format!("/proc/{pid}/ns/{name}");
    let link = fs::read_link(&path).map_err(ContainerError::act(format!("reading {path}")))?;
    Ok(link.to_string_lossy().into_owned())
}

/// Whether the process has another time namespace than this one.
pub fn has_own_time(pid: i32) -> bool {
    matches!((namespace(&pid.to_string(), "time"), namespace("self", "time")), (Ok(a), Ok(b)) if a != b)
}

/// Checks all restored processes; `stage` is the mount namespace that CRIU was started in.
pub fn verify(
    plan: &ContainerPlan,
    options: &Options,
    cgroup: &Cgroup,
    init: i32,
    stage: &str,
) -> Result<(), ContainerError> {
    namespaces(plan, init, stage)?;
    let user = namespace(&init.to_string(), "user")?;
    let inside: BTreeSet<i32> = cgroup.procs()?.into_iter().collect();
    let label = expected_label(plan, options);
    let [users, groups] = ["uid_map", "gid_map"].map(|name| {
        let path = format!("/proc/{init}/{name}");
        Ids::read(Path::new(&path)).map_err(ContainerError::act(format!("reading {path}")))
    });
    let (users, groups) = (users?, groups?);
    for pid in descendants(init, &parents()?) {
        if !inside.contains(&pid) {
            return Err(refused(format!("process {pid} is not in the container's cgroup")));
        }
        // in a user namespace that the container made it has every right over what that has made, and no other
        if namespace(&pid.to_string(), "user")? != user {
            continue;
        }
        // each thread has rights and filters of its own
        for dir in threads(pid)? {
            thread(plan, label.as_deref(), pid, &dir, [&users, &groups])?;
        }
    }
    Ok(())
}

/// The directories of a process's threads.
fn threads(pid: i32) -> Result<Vec<PathBuf>, ContainerError> {
    let path = format!("/proc/{pid}/task");
    let failed = || ContainerError::act(format!("reading {path}"));
    let entries = fs::read_dir(&path).map_err(failed())?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed())).collect()
}

fn thread(
    plan: &ContainerPlan,
    label: Option<&str>,
    pid: i32,
    dir: &Path,
    [users, groups]: [&Ids; 2],
) -> Result<(), ContainerError> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(ContainerError::act(format!("reading {}", path.display())))
    };
    let (status, process) = (read("status")?, &plan.process);
    let most = identity::reachable(process, identity::of_file(pid));
    let found = excess(&status, process.caps, most, process.no_new_privileges, plan.seccomp.is_some())
        .or_else(|| identity::stranger(&status, process, users, groups));
    if let Some(found) = found {
        return Err(refused(format!("process {pid} {found}")));
    }
    if let Some(label) = label {
        let current = read("attr/current")?;
        let current = current.trim_end_matches(['\n', '\0']);
        if current.split(" (").next() != Some(label) {
            return Err(refused(format!("process {pid} is labelled {current:?} and not {label:?}")));
        }
    }
    Ok(())
}

/// Each namespace that config.json keeps apart is apart, or the one that it names.
fn namespaces(plan: &ContainerPlan, init: i32, stage: &str) -> Result<(), ContainerError> {
    let ns = &plan.namespaces;
    for (kind, name) in KINDS {
        if !ns.private.contains(kind) {
            continue;
        }
        let has = namespace(&init.to_string(), name)?;
        let mut joins = ns.init_joins.iter().chain(&ns.parent_joins).chain(&ns.user_join);
        if let Some(join) = joins.find(|join| join.kind == kind) {
            use std::os::unix::fs::MetadataExt;
            let meta = fs::metadata(&join.path)
                .map_err(ContainerError::act(format!("looking at {}", join.path.display())))?;
            if has != format!("{name}:[{}]", meta.ino()) {
                return Err(refused(format!("it does not use the {name} namespace of {}.path", join.at)));
            }
        } else if has == namespace("self", name)? || (kind == Namespaces::MOUNT && has == stage) {
            return Err(refused(format!("it has no {name} namespace of its own, as linux.namespaces has")));
        }
    }
    Ok(())
}

/// The security label that every process must have, if config.json or the caller names one.
fn expected_label(plan: &ContainerPlan, options: &Options) -> Option<String> {
    if let Some(profile) = &options.lsm_profile {
        return profile.split_once(':').map(|(_, name)| name.to_owned());
    }
    let process = &plan.process;
    process.apparmor.clone().or(process.selinux.clone()).filter(|label| !label.is_empty())
}

/// Parents of all processes.
fn parents() -> Result<BTreeMap<i32, i32>, ContainerError> {
    let all = fs::read_dir("/proc").map_err(ContainerError::act("reading /proc"))?;
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // one that has ended meanwhile is none of those that are stopped
    Ok(pids
        .filter_map(|pid| Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect())
}

/// The fourth field. The second, the name in parentheses, may hold anything.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The process and all below it.
fn descendants(first: i32, parents: &BTreeMap<i32, i32>) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([first]);
    let mut new = vec![first];
    while let Some(parent) = new.pop() {
        for (child, _) in parents.iter().filter(|(_, p)| **p == parent) {
            if found.insert(*child) {
                new.push(*child);
            }
        }
    }
    found
}

/// What a thread (its /proc/PID/task/TID/status) has beyond what is allowed, in words; `most` are the capabilities that it
/// can have come to.
fn excess(
    status: &str,
    allowed: CapSets,
    most: u64,
    no_new_privileges: bool,
    filtered: bool,
) -> Option<String> {
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let inheritable = most | allowed.inheritable;
    for (name, allowed) in [
        ("CapBnd", allowed.bounding),
        ("CapPrm", most),
        ("CapEff", most),
        ("CapInh", inheritable),
        ("CapAmb", most),
    ] {
        let Some(has) = field(name).and_then(|text| u64::from_str_radix(text, 16).ok()) else {
            return Some(format!("shows no {name}"));
        };
        let more = has & !allowed;
        if more != 0 {
            let known = ORDER.get(more.trailing_zeros() as usize).and_then(|c| serde_json::to_value(c).ok());
            let which = known.and_then(|v| v.as_str().map(str::to_owned));
            let which = which.unwrap_or_else(|| format!("capability {}", more.trailing_zeros()));
            return Some(format!("has {which} ({name}), which process.capabilities does not give"));
        }
    }
    if no_new_privileges && field("NoNewPrivs") != Some("1") {
        return Some("may gain privileges, which process.noNewPrivileges forbids".into());
    }
    // SECCOMP_MODE_FILTER
    if filtered && field("Seccomp") != Some("2") {
        return Some("has no filter of system calls, as linux.seccomp has".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000420\nCapEff:\t0000000000000420\n\
        CapBnd:\t0000000000000420\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n";

    fn found(status: &str, bounding: u64, no_new_privileges: bool, filtered: bool) -> Option<String> {
        let allowed = CapSets { bounding, permitted: bounding, ..CapSets::default() };
        excess(status, allowed, bounding, no_new_privileges, filtered)
    }

    #[test]
    fn rights_beyond_config_json_are_named() {
        assert_eq!(found(STATUS, 0x420, false, false), None);
        let text = found(STATUS, 0x20, false, false).unwrap();
        assert!(text.contains("CAP_NET_BIND_SERVICE (CapBnd)"), "{text}");
        let more = STATUS.replace("CapAmb:\t0000000000000000", "CapAmb:\t0000000000200000");
        assert!(found(&more, 0x420, false, false).unwrap().contains("CAP_SYS_ADMIN (CapAmb)"));
        assert!(found("Name:\tsh\n", 0, false, false).unwrap().contains("CapBnd"));
    }

    #[test]
    fn a_process_without_filter_or_with_a_way_to_privileges_is_found() {
        assert!(found(STATUS, 0x420, true, false).unwrap().contains("noNewPrivileges"));
        assert!(found(STATUS, 0x420, false, true).unwrap().contains("linux.seccomp"));
        let safe = STATUS.replace("NoNewPrivs:\t0", "NoNewPrivs:\t1").replace("Seccomp:\t0", "Seccomp:\t2");
        assert_eq!(found(&safe, 0x420, true, true), None);
    }

    #[test]
    fn all_below_a_process_are_found() {
        let parents = BTreeMap::from([(1, 0), (5, 1), (6, 5), (7, 6), (8, 1), (9, 5)]);
        assert_eq!(descendants(5, &parents), BTreeSet::from([5, 6, 7, 9]));
        assert_eq!(parent("42 (a) b (c) S 17 42 42 0 -1"), Some(17));
    }
}
