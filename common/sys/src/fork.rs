//! clone3(2) used as a fork into new namespaces and a cgroup.

use crate::check;
use crate::namespace::Namespaces;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What the child is born into. The default is a plain fork.
#[derive(Debug, Default)]
pub struct Fork<'a> {
    /// Namespaces to create for the child.
    pub namespaces: Namespaces,
    /// A cgroup v2 directory the child is born in (CLONE_INTO_CGROUP).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child's parent becomes the caller's parent (CLONE_PARENT).
    pub sibling: bool,
}

/// Which side of the fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The caller; `pid` is in the caller's pid namespace, `pidfd` is close-on-exec.
    Parent { pid: i32, pidfd: OwnedFd },
    /// The new process.
    Child,
}

/// Not taken from libc, whose constant overflows its type.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Layout of `struct clone_args` (include/uapi/linux/sched.h), version 2 (with cgroup).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl Fork<'_> {
    /// Forks. Fails with EINVAL if the process has more than one thread, since a forked copy of a
    /// threaded process may hold locks that nobody will ever release.
    pub fn fork(&self) -> io::Result<Forked> {
        only_thread()?;
        let mut pidfd: libc::c_int = -1;
        let mut args = CloneArgs {
            flags: self.namespaces.bits() | libc::CLONE_PIDFD as u64,
            pidfd: &raw mut pidfd as u64,
            exit_signal: if self.sibling { 0 } else { libc::SIGCHLD as u64 },
            ..CloneArgs::default()
        };
        if let Some(cgroup) = self.cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        if self.sibling {
            args.flags |= libc::CLONE_PARENT as u64;
        }
        // SAFETY: `args` has the kernel's layout and lives across the call; no CLONE_VM and no stack, so the child
        // gets a copy of this memory as with fork(2); there is one thread (checked above), so no lock can be held
        // by a thread that the child lacks; `pidfd` is written by the kernel in the parent only.
        let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
        if pid == 0 {
            return Ok(Forked::Child);
        }
        // SAFETY: clone3 succeeded in the parent with CLONE_PIDFD, so `pidfd` is a fresh descriptor nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Forked::Parent { pid: pid as i32, pidfd })
    }
}

/// Forks through the C library: for a child that goes on for long and starts threads, since the library's own record of
/// its process is right there too. `None` in the child, the child's pid in the caller. EINVAL with more than one thread.
pub fn fork_server() -> io::Result<Option<u32>> {
    only_thread()?;
    // SAFETY: fork takes no pointers; there is one thread, so no lock is held by one that the child lacks.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok((pid != 0).then_some(pid as u32))
}

/// Fails with EINVAL if the process has more than one thread.
fn only_thread() -> io::Result<()> {
    // Not a change of anything: the kernel accepts CLONE_THREAD here only from a process with one thread.
    // SAFETY: unshare takes no pointers; with CLONE_THREAD it has no effect (unshare(2)).
    check(unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_THREAD) }).map(drop)
}

/// Ends the process at once: no destructors, no atexit handlers, no flushing.
/// A forked child leaves through this so that it never runs the parent's cleanup.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threaded_process_is_refused() {
        // the test harness itself has threads
        let err = Fork::default().fork().expect_err("more than one thread");
        assert_eq!(err.raw_os_error(), Some(libc::EINVAL));
        let err = fork_server().expect_err("more than one thread");
        assert_eq!(err.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn clone_args_have_the_size_of_version_two() {
        assert_eq!(size_of::<CloneArgs>(), 88);
    }
}
