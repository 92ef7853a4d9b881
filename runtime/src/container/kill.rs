//! Sending signals.

use super::ContainerError;
use super::status::{Container, Status};
use wharf_sys::namespace::Namespaces;
use wharf_sys::pidfd;

const SIGKILL: i32 = 9;

/// Signals init, or with `all` every process of the container.
pub fn kill(container: &Container, signal: i32, all: bool) -> Result<(), ContainerError> {
    let status = container.status();
    let shares_pids = container.record.namespaces & Namespaces::PID.bits() == 0;
    if all || (signal == SIGKILL && shares_pids) {
        // without a pid namespace of its own nothing ends the others when init ends
        return signal_all(container, signal);
    }
    if status == Status::Stopped {
        return Err(ContainerError::Refused("container not running".into()));
    }
    let init = container
        .record
        .init
        .and_then(|p| p.open())
        .ok_or_else(|| ContainerError::Refused("container not running".into()))?;
    pidfd::send_signal(&init, signal).map_err(ContainerError::act("sending signal to init"))?;
    if status == Status::Paused && signal == SIGKILL {
        // a frozen process on cgroup v1 does not even die
        container.cgroup()?.thaw()?;
    }
    Ok(())
}

fn signal_all(container: &Container, signal: i32) -> Result<(), ContainerError> {
    if signal == SIGKILL && !container.record.cgroup.0.is_empty() {
        return Ok(container.cgroup()?.kill()?);
    }
    for pid in container.processes()? {
        if let Some(fd) = crate::pid::ProcessId::of(pid).and_then(|p| p.open()) {
            match pidfd::send_signal(&fd, signal) {
                Err(e) if e.raw_os_error() != Some(3) => {
                    return Err(ContainerError::act(format!("sending signal to {pid}"))(e));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
