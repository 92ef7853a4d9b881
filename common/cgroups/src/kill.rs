//! SIGKILL to every process of a cgroup.

use std::collections::BTreeSet;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::Cgroup;
use crate::error::CgroupError;
use crate::file::write_at;
use crate::hierarchy::Mode;
use std::os::fd::AsFd;

/// Rounds of listing and killing. Each round meets only processes forked since the one before, and with the
/// freezer there are none after the first.
const ROUNDS: usize = 100;

impl Cgroup {
    /// Sends SIGKILL to every process, sub-cgroups included; returns when each has been sent it, not when they are
    /// gone. A frozen cgroup is thawed, since a process stopped by v1's freezer does not die.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Some(v2) = self.v2() {
            // since Linux 5.14: one write, and no fork escapes it
            let whole = match write_at(v2.fd.as_fd(), "cgroup.kill", "1") {
                Ok(()) => true,
                Err(Errno::NOENT | Errno::OPNOTSUPP) => false,
                Err(Errno::NODEV) => true,
                Err(e) => return Err(CgroupError::io("write", &v2.path.join("cgroup.kill"), e)),
            };
            if whole && self.mode == Mode::Unified {
                return self.thaw().or_else(gone);
            }
            if whole {
                // processes put only into the v1 directories, by another program
                let by_pid = self.kill_listed();
                self.thaw_if_any()?;
                return by_pid;
            }
        }
        let stopped = self.dir("freezer").is_some() && self.freeze().is_ok();
        let killed = self.kill_listed();
        if stopped {
            self.thaw().or_else(gone)?;
        }
        killed
    }

    fn thaw_if_any(&self) -> Result<(), CgroupError> {
        if self.dir("freezer").is_none() { Ok(()) } else { self.thaw().or_else(gone) }
    }

    fn kill_listed(&self) -> Result<(), CgroupError> {
        let mut sent = BTreeSet::new();
        for _ in 0..ROUNDS {
            let new: Vec<i32> = self.procs()?.into_iter().filter(|p| sent.insert(*p)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for pid in new.into_iter().filter_map(Pid::from_raw) {
                match kill_process(pid, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(e) => {
                        let path = self.membership().map(|d| d.path.clone()).unwrap_or_default();
                        return Err(CgroupError::io("kill a process of", &path, e));
                    }
                }
            }
        }
        Err(CgroupError::Timeout {
            act: "kill every process of",
            path: self.membership().map(|d| d.path.clone()).unwrap_or_default(),
            seconds: 0,
        })
    }
}

/// A cgroup removed meanwhile has no process left to thaw.
fn gone(error: CgroupError) -> Result<(), CgroupError> {
    match &error {
        // its files cannot be opened any more, and one that is open says that there is no such device
        CgroupError::Write { source, .. }
            if [Errno::NODEV, Errno::NOENT]
                .iter()
                .any(|e| source.raw_os_error() == Some(e.raw_os_error())) =>
        {
            Ok(())
        }
        _ => Err(error),
    }
}
