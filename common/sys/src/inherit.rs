//! Giving a child process descriptors under numbers of its own, and a place among the cgroups.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where the parent's copies go, out of the way of the numbers asked for.
const FIRST_FREE: RawFd = 64;

/// Makes `command`'s child hold each descriptor under its number, which must be from 3 to 63. The copies live
/// as long as `command`.
///
/// # Errors
/// If a descriptor cannot be duplicated or a number is out of range.
pub fn inherit(command: &mut Command, fds: Vec<(OwnedFd, RawFd)>) -> io::Result<()> {
    let mut moved: Vec<(OwnedFd, RawFd)> = Vec::with_capacity(fds.len());
    for (fd, number) in fds {
        if !(3..FIRST_FREE).contains(&number) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        moved.push((rustix::io::fcntl_dupfd_cloexec(&fd, FIRST_FREE)?, number));
    }
    let give = move || {
        for (fd, number) in &moved {
            // SAFETY: dup2 takes two numbers and is async-signal-safe; the source is open since `moved` owns
            // it, and what the target number was in this child is nobody's after exec.
            if unsafe { libc::dup2(fd.as_raw_fd(), *number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it makes system calls only and allocates nothing
    // (`last_os_error` reads errno).
    unsafe { command.pre_exec(give) };
    Ok(())
}

/// What a child is to be before it executes, and those that it makes after it.
#[derive(Debug, Default)]
pub struct Place {
    /// `cgroup.procs` or `tasks` of the cgroups that it enters, open for writing.
    pub cgroups: Vec<OwnedFd>,
    /// It gets a cgroup namespace, whose roots these are.
    pub cgroup_namespace: bool,
    /// It gains none by executing (PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: bool,
}

/// Puts `command`'s child in its place.
pub fn place(command: &mut Command, place: Place) {
    let enter = move || {
        for file in &place.cgroups {
            rustix::io::write(file, b"0")?;
        }
        if place.cgroup_namespace {
            crate::namespace::unshare(crate::namespace::Namespaces::CGROUP)?;
        }
        if place.no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it makes system calls only and allocates nothing.
    unsafe { command.pre_exec(enter) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_child_is_in_its_place_and_the_parent_is_not() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "grep -q 'NoNewPrivs:.1' /proc/self/status"]);
        place(&mut command, Place { no_new_privileges: true, ..Place::default() });
        assert!(command.status().unwrap().success());
        assert!(!rustix::thread::no_new_privs().unwrap());
    }

    #[test]
    fn the_child_has_the_descriptors_under_their_numbers() {
        let (mut read, write) = io::pipe().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo five >&5; test ! -e /proc/self/fd/64"]);
        inherit(&mut command, vec![(write.into(), 5)]).unwrap();
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "five\n");
        assert!(child.wait().unwrap().success());
    }
}
