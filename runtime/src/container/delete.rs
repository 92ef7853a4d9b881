//! Removing containers.

use super::status::{Container, Status};
use super::{ContainerError, HookState, kill};
use crate::hooks;
use crate::state::{Lock, StateError, StateRoot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a killed init may take to end: it may be writing back to a slow disk.
const KILL_PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How long a create or a delete that is under way is waited for.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// Deletes a container; with `force` one that runs is killed first, and one that does not exist is fine.
pub fn delete(root: &StateRoot, id: &str, force: bool) -> Result<(), ContainerError> {
    let _lock = match lock(root, id, force) {
        Err(ContainerError::State(StateError::NotFound)) if force => return Ok(()),
        other => other?,
    };
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

/// Waits until nobody else makes or deletes the container. With `force` the init of a create is killed meanwhile, so
/// that the create fails soon; and if that does not help, as with a hook that hangs, there will be no lock (None).
fn lock(root: &StateRoot, id: &str, force: bool) -> Result<Option<Lock>, ContainerError> {
    let dir = root.any(id)?;
    let deadline = Instant::now() + UNDER_WAY;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = dir.try_lock()? {
            return Ok(Some(lock));
        }
        if force
            && let Ok(container) = Container::load(root, id)
            && let Err(e) = kill::kill(&container, 9, true)
        {
            crate::log::debug(|| format!("ending a create under way: {e}"));
        }
        if Instant::now() >= deadline {
            if force {
                return Ok(None);
            }
            return Err(ContainerError::Refused(format!("container {id} is being created or deleted")));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
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

/// Takes away everything of a container whose init has ended. If its cgroup cannot be removed its record stays, so
/// that the deletion can be tried again: nothing else knows of the cgroup.
pub fn destroy(container: &Container) -> Result<(), ContainerError> {
    remove_cgroup(container)?;
    crate::rdt::remove(container.dir.path()).map_err(ContainerError::act("removing the class of service"))?;
    let removed = container.dir.remove();
    let list = container.record.hooks.as_ref().and_then(|h| h.poststop().as_ref());
    // the specification: a failing poststop hook is logged, the deletion goes on
    if let Err(e) = hooks::run("poststop", list, &HookState::of(&container.record).json("stopped", 0)) {
        crate::log::warn(&e.to_string());
    }
    Ok(removed?)
}

fn remove_cgroup(container: &Container) -> Result<(), ContainerError> {
    let cgroup = container.cgroup()?;
    if !cgroup.exists() {
        // systemd takes a scope away with its last process, and keeps one that failed until it is told to forget it
        if let Some(Err(e)) = container.record.unit.as_ref().map(|u| u.stop()) {
            crate::log::warn(&e.to_string());
        }
        return Ok(());
    }
    let killed = if cgroup.procs()?.is_empty() { Ok(()) } else { cgroup.kill() };
    if let Some(unit) = &container.record.unit {
        unit.stop()?;
    }
    let deleted = cgroup.delete();
    // the cause, if there is one, rather than what it led to
    Ok(if deleted.is_err() { killed.and(deleted) } else { deleted }?)
}
