//! Who a restored thread is. CRIU takes user, groups and capabilities from the images, and config.json may name others
//! (CVE-2026-92574).

use crate::plan::capabilities::CapSets;
use crate::plan::process::ProcessPlan;
use std::fs;
use std::path::Path;

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
/// struct vfs_cap_data: the version is the highest byte of the first word (include/uapi/linux/capability.h).
const REVISION: u32 = 0xff00_0000;
const REVISIONS: [u32; 2] = [0x0200_0000, 0x0300_0000];

/// The most capabilities that a thread of that process can have come to by itself: root has what its bounding set leaves,
/// another user what is ambient, and where privileges may be gained what the file gives that it has executed.
pub fn reachable(process: &ProcessPlan, of_file: u64) -> u64 {
    let CapSets { bounding, permitted, ambient, .. } = process.caps;
    match (process.uid, process.no_new_privileges) {
        (0, _) => bounding | permitted,
        (_, true) => ambient,
        (_, false) => ambient | (of_file & bounding),
    }
}

/// The capabilities that the file gives which the process has executed.
pub fn of_file(pid: i32) -> u64 {
    let mut value = [0u8; 64];
    // one without them, or on a filesystem that has none, gives none
    let length = rustix::fs::getxattr(format!("/proc/{pid}/exe"), "security.capability", &mut value);
    length.ok().and_then(|n| permitted(value.get(..n)?)).unwrap_or(0)
}

fn permitted(value: &[u8]) -> Option<u64> {
    let word = |i: usize| Some(u32::from_le_bytes(value.get(4 * i..4 * i + 4)?.try_into().ok()?));
    REVISIONS.contains(&(word(0)? & REVISION)).then_some(())?;
    Some(u64::from(word(1)?) | (u64::from(word(3)?) << 32))
}

/// What is mapped into the container's user namespace, as /proc/PID/uid_map shows it to this process.
#[derive(Debug)]
pub struct Ids(Vec<(u32, u32, u32)>);

impl Ids {
    pub fn read(path: &Path) -> std::io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(path)?))
    }

    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The container's name for an id of this process's namespace.
    fn inside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|(inside, outside, length)| {
            let offset = id.checked_sub(*outside).filter(|offset| offset < length)?;
            inside.checked_add(offset)
        })
    }
}

/// What a thread (its /proc/PID/task/TID/status) is that config.json does not make it, in words. With the right to become
/// others it may have become anyone. Without it there are set-user-ID and set-group-ID programs, where privileges may be
/// gained, but who runs such a one cannot be told from who was put into the images: a container is refused while another
/// user than root runs one in it, though it came to that by itself.
pub fn stranger(status: &str, process: &ProcessPlan, users: &Ids, groups: &Ids) -> Option<String> {
    let held = reachable(process, 0);
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let mut own_groups = process.groups.clone();
    own_groups.push(process.gid);
    for (name, right, map, own, at) in [
        ("Uid", CAP_SETUID, users, std::slice::from_ref(&process.uid), "process.user.uid"),
        ("Gid", CAP_SETGID, groups, std::slice::from_ref(&process.gid), "process.user.gid"),
        ("Groups", CAP_SETGID, groups, &own_groups[..], "process.user.additionalGids"),
    ] {
        if held & right != 0 {
            continue;
        }
        let Some(ids) = field(name) else { return Some(format!("shows no {name}")) };
        for id in ids.split_ascii_whitespace() {
            let inside = id.parse().ok().and_then(|id| map.inside(id));
            if !inside.is_some_and(|id| own.contains(&id)) {
                let id = inside.map_or_else(|| format!("{id} of the host"), |id| id.to_string());
                let hint = match process.no_new_privileges || name == "Groups" {
                    true => "",
                    false => " (a container in which set-user-ID programs run cannot be restored)",
                };
                return Some(format!("has the id {id} ({name}), which {at} does not give{hint}"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn process(user: serde_json::Value, caps: serde_json::Value, no_new_privileges: bool) -> ProcessPlan {
        let process = json!({"args": ["true"], "cwd": "/", "user": user, "capabilities": caps,
            "noNewPrivileges": no_new_privileges});
        crate::plan::process::plan(&serde_json::from_value(process).unwrap(), "process").unwrap()
    }

    fn status(uid: &str, gid: &str, groups: &str) -> String {
        format!("Name:\tsh\nUid:\t{uid}\nGid:\t{gid}\nFDSize:\t64\nGroups:\t{groups} \n")
    }

    #[test]
    fn a_user_without_the_right_to_be_another_is_nobody_else() {
        let own = process(json!({"uid": 5, "gid": 6, "additionalGids": [7]}), json!({}), false);
        let all = Ids::parse("         0          0 4294967295\n");
        let found = |status: &str| stranger(status, &own, &all, &all);
        assert_eq!(found(&status("5\t5\t5\t5", "6\t6\t6\t6", "6 7")), None);
        assert_eq!(found(&status("5\t5\t5\t5", "6\t6\t6\t6", "")), None);
        for (bad, text) in [
            (status("0\t0\t0\t0", "6\t6\t6\t6", "7"), "id 0 (Uid), which process.user.uid"),
            (status("5\t5\t0\t5", "6\t6\t6\t6", "7"), "id 0 (Uid)"),
            (status("5\t5\t5\t5", "6\t0\t6\t6", "7"), "id 0 (Gid), which process.user.gid"),
            (status("5\t5\t5\t5", "6\t6\t6\t6", "7 0"), "id 0 (Groups), which process.user.additionalGids"),
            ("Name:\tsh\n".to_owned(), "shows no Uid"),
        ] {
            assert!(found(&bad).is_some_and(|found| found.contains(text)), "{text}: {:?}", found(&bad));
        }
        let hint = "(a container in which set-user-ID programs run cannot be restored)";
        assert!(found(&status("5\t0\t0\t0", "6\t6\t6\t6", "")).unwrap().ends_with(hint));
        let never = process(json!({"uid": 5, "gid": 6}), json!({}), true);
        let found = stranger(&status("5\t0\t0\t0", "6\t6\t6\t6", ""), &never, &all, &all).unwrap();
        assert!(found.ends_with("does not give"), "{found}");
    }

    #[test]
    fn one_with_the_right_to_be_another_may_be_anyone() {
        let root = |caps: &[&str]| {
            process(json!({"uid": 0, "gid": 0}), json!({"bounding": caps, "permitted": caps}), true)
        };
        let all = Ids::parse("0 0 4294967295\n");
        let other = status("5\t5\t5\t5", "0\t0\t0\t0", "");
        assert_eq!(stranger(&other, &root(&["CAP_SETUID"]), &all, &all), None);
        assert!(stranger(&other, &root(&["CAP_SETGID"]), &all, &all).unwrap().contains("(Uid)"));
        let user = process(json!({"uid": 9, "gid": 0}), json!({"bounding": ["CAP_SETUID"]}), false);
        assert!(
            stranger(&other, &user, &all, &all).unwrap().contains("(Uid)"),
            "a bounding set gives nothing"
        );
    }

    #[test]
    fn ids_are_those_of_the_containers_user_namespace() {
        let own = process(json!({"uid": 0, "gid": 0}), json!({}), false);
        let map = Ids::parse("0 100000 1000\n");
        let mapped = status("100000\t100000\t100000\t100000", "100000\t100000\t100000\t100000", "");
        assert_eq!(stranger(&mapped, &own, &map, &map), None);
        let host = status("0\t0\t0\t0", "100000\t100000\t100000\t100000", "");
        assert!(stranger(&host, &own, &map, &map).unwrap().contains("id 0 of the host (Uid)"));
    }

    #[test]
    fn a_user_has_what_is_ambient_or_what_its_file_gives() {
        let caps = json!({"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"], "permitted": ["CAP_CHOWN"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
        let (chown, kill) = (1, 1 << 5);
        let user = |limited: bool| process(json!({"uid": 5, "gid": 5}), caps.clone(), limited);
        let file = chown | 1 << 21;
        assert_eq!(reachable(&user(false), file), chown | (user(false).caps.ambient));
        assert_eq!(reachable(&user(true), file), user(true).caps.ambient);
        assert!(user(true).caps.ambient & !kill == 0);
        let root = process(json!({"uid": 0, "gid": 0}), caps, true);
        assert_eq!(reachable(&root, 0), chown | kill | CAP_SETUID);
    }

    #[test]
    fn a_files_capabilities_are_read() {
        let value = |words: [u32; 5]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(permitted(&value([0x0200_0001, 0x400, 0, 0x2, 0])), Some(0x2_0000_0400));
        assert_eq!(permitted(&value([0x0300_0000, 1, 0, 0, 0])), Some(1));
        assert_eq!(permitted(&value([0x0900_0000, 1, 0, 0, 0])), None);
        assert_eq!(permitted(&[0, 0, 0, 2]), None);
    }
}
