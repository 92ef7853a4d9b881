//! A process that does nothing but be in a cgroup.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use wharf_sys::fork::{Fork, Forked, exit_now};

use super::SystemdError;

/// The process; it ends when this is dropped, or when the caller ends.
#[derive(Debug)]
pub struct Holder {
    pid: i32,
    pidfd: OwnedFd,
}

impl Holder {
    /// Forks it. The caller must have one thread only.
    pub(super) fn start() -> Result<Holder, SystemdError> {
        let failed = |act| move |source: std::io::Error| SystemdError::Holder { act, source };
        let flags = rustix::process::PidfdFlags::empty();
        let parent = rustix::process::pidfd_open(rustix::process::getpid(), flags)
            .map_err(|e| failed("watch the parent of")(e.into()))?;
        match Fork::default().fork().map_err(failed("fork"))? {
            Forked::Parent { pid, pidfd } => Ok(Holder { pid, pidfd }),
            Forked::Child => {
                // nothing but the parent's end concerns it: not even signals, but for the one that nobody can refuse
                let _ = wharf_sys::signal::block_all();
                let mut watched = [rustix::event::PollFd::new(&parent, rustix::event::PollFlags::IN)];
                while rustix::event::poll(&mut watched, None) == Err(Errno::INTR) {}
                exit_now(0)
            }
        }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // a failure means that it has gone, which is what is wanted
        let _ = wharf_sys::pidfd::send_signal(&self.pidfd, 9);
        while let Err(Errno::INTR) = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {}
    }
}
