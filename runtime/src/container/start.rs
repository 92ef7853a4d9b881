//! Letting a created container's program run.

use super::status::{Container, Status};
use super::{ContainerError, HookState};
use crate::hooks;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};

/// Opens the fifo that init waits at.
pub fn start(container: &Container) -> Result<(), ContainerError> {
    match container.status() {
        Status::Created => {}
        Status::Stopped => {
            return Err(ContainerError::Refused("cannot start a container that has stopped".into()));
        }
        Status::Running | Status::Paused => return Err(already()),
    }
    let init = container
        .record
        .init
        .and_then(|p| p.open())
        .ok_or_else(|| ContainerError::Refused("cannot start a container that has stopped".into()))?;
    let path = container.dir.fifo();
    // Not blocking: init may die before it opens its end, and then nobody ever would.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fifo = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) => return Err(already()),
        Err(e) => return Err(ContainerError::act(format!("opening {}", path.display()))(e)),
    };
    let mut byte = [0u8; 1];
    loop {
        let mut fds = [PollFd::new(&fifo, PollFlags::IN), PollFd::new(&init, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(ContainerError::act("waiting for init"))?,
        };
        let (readable, dead) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        match rustix::io::read(&fifo, &mut byte) {
            Ok(1) => break,
            // another `start` was quicker and has taken the byte
            Ok(_) if readable => return Err(already()),
            _ if dead => {
                return Err(ContainerError::Refused("container process is already dead".into()));
            }
            _ => {}
        }
    }
    match rustix::fs::unlink(&path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(ContainerError::act(format!("removing {}", path.display()))(e)),
    }
    let hooks = container.record.hooks.as_ref().and_then(|h| h.poststart().as_ref());
    let state = HookState::of(&container.record).json("running", container.pid());
    // the program runs already; the specification (since 1.2) has the container stopped and an error
    if let Err(error) = hooks::run("poststart", hooks, &state) {
        if let Err(cleanup) = super::kill::kill(container, 9, false) {
            let cleanup = cleanup.to_string();
            return Err(ContainerError::Cleanup { error: Box::new(error.into()), cleanup });
        }
        return Err(error.into());
    }
    Ok(())
}

fn already() -> ContainerError {
    ContainerError::Refused("cannot start an already running container".into())
}
