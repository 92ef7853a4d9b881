//! What a container is doing, derived from its record and the kernel, never stored.

use super::ContainerError;
use crate::state::{Record, StateDir, StateRoot};
use wharf_cgroups::Cgroup;
use wharf_sys::namespace::Namespaces;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Init waits at the exec fifo.
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container as found on disk.
#[derive(Debug)]
pub struct Container {
    pub dir: StateDir,
    pub record: Record,
}

impl Container {
    pub fn load(root: &StateRoot, id: &str) -> Result<Self, ContainerError> {
        let dir = root.get(id)?;
        let record = dir.load()?;
        Ok(Self { dir, record })
    }

    pub fn status(&self) -> Status {
        if !self.record.init.is_some_and(|p| p.is_alive()) {
            return Status::Stopped;
        }
        if self.dir.fifo().exists() {
            return Status::Created;
        }
        // a cgroup that cannot be read does not make a running process stopped
        match self.cgroup().and_then(|c| Ok(c.frozen()?)) {
            Ok(true) => Status::Paused,
            _ => Status::Running,
        }
    }

    /// The pid of init, 0 if it does not run.
    pub fn pid(&self) -> i32 {
        self.record.init.filter(|p| p.is_alive()).map_or(0, |p| p.pid)
    }

    /// The container's processes, sorted; without a cgroup those of its pid namespace, and if it has none of its own
    /// only its first one.
    pub fn processes(&self) -> Result<Vec<i32>, ContainerError> {
        if !self.record.cgroup.0.is_empty() {
            return Ok(self.cgroup()?.procs()?);
        }
        let init = self.pid();
        if init == 0 {
            return Ok(Vec::new());
        }
        if self.record.namespaces & Namespaces::PID.bits() == 0 {
            return Ok(vec![init]);
        }
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
        // not shown of a process that nobody may look into: that is init before its program, and alone
        let Ok(own) = namespace(init) else { return Ok(vec![init]) };
        let all = std::fs::read_dir("/proc").map_err(ContainerError::act("reading /proc"))?;
        let mut pids: Vec<i32> = all
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| namespace(*pid).is_ok_and(|n| n == own))
            .collect();
        pids.sort_unstable();
        Ok(pids)
    }

    pub fn cgroup(&self) -> Result<Cgroup, ContainerError> {
        Ok(Cgroup::from_paths(&self.record.cgroup)?)
    }
}
