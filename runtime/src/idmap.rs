//! User namespaces: writing the mappings of init, and namespaces that only carry a mapping.

pub mod remote;

use crate::rootless;
use oci_spec::runtime::LinuxIdMapping;
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use wharf_sys::fork::{Fork, Forked, exit_now};
use wharf_sys::namespace::Namespaces;

/// The text of uid_map and gid_map (user_namespaces(7)).
fn text(mappings: &[LinuxIdMapping]) -> String {
    mappings.iter().fold(String::new(), |mut out, m| {
        let _ = writeln!(out, "{} {} {}", m.container_id(), m.host_id(), m.size());
        out
    })
}

/// Maps the ids of the process `pid`, which is alone in its new user namespace: by writing them, or where this user may
/// only map its own id and more is asked for, through newuidmap(1) and newgidmap(1), which know what else is the user's.
pub fn map(pid: i32, uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> io::Result<()> {
    if rootless::may_administer() {
        return write_mappings(pid, uid, gid);
    }
    let is_own = |list: &[LinuxIdMapping], id: u32| matches!(list, [m] if m.size() == 1 && m.host_id() == id);
    let own_uid = is_own(uid, rustix::process::geteuid().as_raw());
    let own_gid = is_own(gid, rustix::process::getegid().as_raw());
    if own_uid && own_gid {
        return write_mappings(pid, uid, gid);
    }
    // both, or neither: setgroups may only stay allowed with newgidmap
    through("newgidmap", pid, gid)?;
    if own_uid { put(pid, "uid_map", &text(uid)) } else { through("newuidmap", pid, uid) }
}

/// Runs the set-user-id program that maps ids of /etc/subuid or /etc/subgid.
fn through(program: &str, pid: i32, mappings: &[LinuxIdMapping]) -> io::Result<()> {
    let mut command = std::process::Command::new(program);
    command.arg(pid.to_string()).stdin(std::process::Stdio::null());
    for m in mappings {
        command.args([m.container_id().to_string(), m.host_id().to_string(), m.size().to_string()]);
    }
    let output = command.output().map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("running {program}, which mapping more than one's own id takes: {e}"),
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} for {:?}: {}", text(mappings).trim_end(), said.trim_end())))
}

fn put(pid: i32, file: &str, data: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/{pid}/{file}"), data)
        .map_err(|e| io::Error::new(e.kind(), format!("writing {file} ({:?}): {e}", data.trim_end())))
}

/// Writes the mappings of the process `pid`, which is alone in its new user namespace. Each file takes one write, once.
pub fn write_mappings(pid: i32, uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> io::Result<()> {
    let put = |file: &str, data: &str| put(pid, file, data);
    match put("gid_map", &text(gid)) {
        // without CAP_SETGID outside, setgroups has to be given up first (user_namespaces(7))
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            put("setgroups", "deny")?;
            put("gid_map", &text(gid))?;
        }
        other => other?,
    }
    put("uid_map", &text(uid))
}

/// A user namespace with these mappings that no process is in: for mount_setattr's MOUNT_ATTR_IDMAP.
pub fn user_namespace(uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> io::Result<OwnedFd> {
    let (hold, release) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match (Fork { namespaces: Namespaces::USER, ..Fork::default() }).fork()? {
        Forked::Child => {
            drop(release);
            // lives until the parent lets go of its end
            let _ = rustix::io::read(&hold, &mut [0u8; 1]);
            exit_now(0)
        }
        Forked::Parent { pid, pidfd } => {
            let opened = write_mappings(pid, uid, gid).and_then(|()| {
                Ok(rustix::fs::open(
                    format!("/proc/{pid}/ns/user"),
                    rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
                    rustix::fs::Mode::empty(),
                )?)
            });
            drop(release);
            let wait = rustix::process::WaitIdOptions::EXITED;
            rustix::process::waitid(rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)), wait)?;
            opened
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_written_one_a_line() {
        let maps: Vec<LinuxIdMapping> = serde_json::from_str(
            r#"[{"hostID":1000,"containerID":0,"size":1},{"hostID":100000,"containerID":1,"size":65536}]"#,
        )
        .unwrap();
        assert_eq!(text(&maps), "0 1000 1\n1 100000 65536\n");
    }
}
