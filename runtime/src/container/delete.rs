//! Removing containers.

use super::status::{Container, Status};
use super::{ContainerError, HookState, kill};
use crate::hooks;
use crate::state::{StateError, StateRoot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;

/// How long a killed init may take to end: it may be writing back to a slow disk.
const KILL_PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Deletes a container; with `force` one that runs is killed first, and one that does not exist is fine.
pub fn delete(root: &StateRoot, id: &str, force: bool) -> Result<(), ContainerError> {
    let container = match Container::load(root, id) {
        Ok(container) => container,
        Err(ContainerError::State(StateError::NotFound)) => {
            // a create that was killed between its first two steps leaves an empty directory that claims the id
            root.any(id)?.remove()?;
            return if force { Ok(()) } else { Err(StateError::NotFound.into()) };
        }
        Err(e) => return Err(e),
    };
    match container.status() {
        Status::Stopped => {}
        Status::Created => end(&container)?,
        Status::Running | Status::Paused if force => end(&container)?,
        status => {
            return Err(ContainerError::Refused(format!(
                "cannot delete container {id} that is not stopped: {}",
                status.as_str()
            )));
        }
    }
    destroy(&container)
}

fn end(container: &Container) -> Result<(), ContainerError> {
    let Some(init) = container.record.init.and_then(|p| p.open()) else { return Ok(()) };
    match kill::kill(container, 9, false) {
        // it ended by itself in between
        Err(_) if !container.record.init.is_some_and(|p| p.is_alive()) => return Ok(()),
        other => other?,
    }
    loop {
        // readable once init is a zombie or gone
        match poll(&mut [PollFd::from_borrowed_fd(init.as_fd(), PollFlags::IN)], Some(&KILL_PATIENCE)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return Err(ContainerError::Refused("container init still running".into())),
            Ok(_) => return Ok(()),
            Err(e) => return Err(ContainerError::act("waiting for init")(e)),
        }
    }
}

/// Takes away everything of a container whose init has ended. Goes on past errors, so that one failure does not keep
/// the rest; poststop hooks run whatever happened.
pub fn destroy(container: &Container) -> Result<(), ContainerError> {
    let mut first: Option<ContainerError> = None;
    let mut note = |result: Result<(), ContainerError>| {
        if let Err(e) = result {
            match &first {
                None => first = Some(e),
                Some(_) => crate::log::warn(&e.to_string()),
            }
        }
    };
    note(remove_cgroup(container));
    note(container.dir.remove().map_err(Into::into));
    let list = container.record.hooks.as_ref().and_then(|h| h.poststop().as_ref());
    // the specification: a failing poststop hook is logged, the deletion goes on
    if let Err(e) = hooks::run("poststop", list, &HookState::of(&container.record).json("stopped", 0)) {
        crate::log::warn(&e.to_string());
    }
    first.map_or(Ok(()), Err)
}

fn remove_cgroup(container: &Container) -> Result<(), ContainerError> {
    let cgroup = container.cgroup()?;
    if !cgroup.exists() {
        return Ok(());
    }
    if !cgroup.procs()?.is_empty() {
        cgroup.kill()?;
    }
    Ok(cgroup.delete()?)
}
