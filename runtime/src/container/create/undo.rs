//! Taking a half-made container back: the process, the cgroup, the directory. Goes on past errors and reports them all.

use crate::container::ContainerError;
use crate::state::StateDir;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, OwnedFd};
use wharf_cgroups::systemd::Unit;
use wharf_cgroups::{Cgroup, Paths};

#[derive(Debug)]
pub struct Undo {
    dir: Option<StateDir>,
    cgroup: Option<Paths>,
    process: Option<OwnedFd>,
    unit: Option<Unit>,
}

impl Undo {
    pub fn new(dir: StateDir) -> Self {
        Self { dir: Some(dir), cgroup: None, process: None, unit: None }
    }
    pub fn cgroup_may_exist(&mut self, paths: Paths) {
        self.cgroup = Some(paths);
    }
    pub fn unit_exists(&mut self, unit: Unit) {
        self.unit = Some(unit);
    }
    pub fn process(&mut self, pidfd: OwnedFd) {
        self.process = Some(pidfd);
    }

    /// The container is there to stay.
    pub fn disarm(mut self) {
        self.dir = None;
        self.cgroup = None;
        self.process = None;
        self.unit = None;
    }

    /// Undoes everything; the error is the one that made this necessary, with what went wrong in undoing added.
    pub fn run(mut self, error: ContainerError) -> ContainerError {
        let problems = self.sweep();
        if problems.is_empty() {
            return error;
        }
        ContainerError::Cleanup { error: Box::new(error), cleanup: problems.join("; ") }
    }

    /// Ends the container's process, if there is one, and reaps it; what went wrong, in words.
    pub fn end_process(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(pidfd) = self.process.take() {
            match wharf_sys::pidfd::send_signal(&pidfd, 9) {
                Err(e) if e.raw_os_error() != Some(3) => problems.push(format!("killing init: {e}")),
                _ => {}
            }
            if let Err(e) = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
                problems.push(format!("waiting for init: {e}"));
            }
        }
        problems
    }

    fn sweep(&mut self) -> Vec<String> {
        let mut problems = self.end_process();
        if let Some(unit) = self.unit.take()
            && let Err(e) = unit.stop()
        {
            problems.push(e.to_string());
        }
        if let Some(paths) = self.cgroup.take() {
            match Cgroup::from_paths(&paths) {
                Ok(cgroup) => {
                    let killed = cgroup.kill();
                    if let Err(e) = cgroup.delete() {
                        problems.extend(killed.err().map(|e| e.to_string()));
                        problems.push(e.to_string());
                    }
                }
                Err(e) => problems.push(e.to_string()),
            }
        }
        if let Some(dir) = &self.dir
            && let Err(e) = crate::rdt::remove(dir.path())
        {
            problems.push(e.to_string());
        }
        if let Some(dir) = self.dir.take()
            && let Err(e) = dir.remove()
        {
            problems.push(e.to_string());
        }
        problems
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for problem in self.sweep() {
            crate::log::warn(&problem);
        }
    }
}
