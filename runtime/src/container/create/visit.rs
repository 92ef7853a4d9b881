//! The runtime's stay in namespaces of the container.

use crate::container::ContainerError;
use crate::init::namespaces::{self, Entered};
use crate::plan::ContainerPlan;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use wharf_sys::namespace::{Namespaces, setns};

/// The runtime's stay in namespaces that only apply to children, or that init could not enter: left again on drop.
pub struct Visit {
    back: Vec<(OwnedFd, Namespaces)>,
}

impl Visit {
    pub fn enter(plan: &ContainerPlan, joins: &[Entered]) -> Result<Self, ContainerError> {
        let mut visit = Self { back: Vec::new() };
        for entered in joins {
            let kind = entered.join.kind;
            visit.remember(kind)?;
            setns(&entered.fd, kind).map_err(ContainerError::act(format!(
                "{}.path: entering {}",
                entered.join.at,
                entered.join.path.display()
            )))?;
        }
        // an ordinary user may not: there init does it
        if !plan.time_offsets.is_empty() && !crate::rootless::init_makes_rootfs(&plan.namespaces) {
            // offsets can only be written while nobody is in the namespace
            visit.remember(Namespaces::TIME)?;
            namespaces::shift_clocks(&plan.time_offsets)?;
        }
        Ok(visit)
    }

    /// In init: this is where it is to be.
    pub fn stay(mut self) {
        self.back.clear();
    }

    fn remember(&mut self, kind: Namespaces) -> Result<(), ContainerError> {
        let name = match kind {
            Namespaces::PID => "pid",
            Namespaces::NET => "net",
            Namespaces::IPC => "ipc",
            Namespaces::UTS => "uts",
            Namespaces::CGROUP => "cgroup",
            Namespaces::TIME => "time",
            _ => return Err(ContainerError::Refused("a namespace that the runtime cannot visit".into())),
        };
        let path = format!("/proc/self/ns/{name}");
        let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(ContainerError::act(format!("opening {path}")))?;
        self.back.push((fd, kind));
        Ok(())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        for (fd, kind) in self.back.drain(..) {
            if let Err(e) = setns(&fd, kind) {
                crate::log::warn(&format!("leaving a namespace of the container: {e}"));
            }
        }
    }
}
