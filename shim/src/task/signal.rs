//! Kill, Pause, Resume, Update.

use wharf_containerd::containerd::events::{TaskPaused, TaskResumed};
use wharf_containerd::containerd::task::v3::{KillRequest, PauseRequest, ResumeRequest, UpdateTaskRequest};
use wharf_kinds::Kind;

use super::Shim;
use super::process::{Child, State};
use crate::error::TaskError;

impl Shim {
    /// `Task.Kill`. One process is signalled through its pidfd; the runtime is asked where it knows more:
    /// for all processes, and for a paused container, which it has to thaw.
    pub(super) fn kill(&self, request: &KillRequest) -> Result<(), TaskError> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let state = process.state();
        let is_init = process.exec_id.is_none();
        match &state {
            State::Deleted(_) => Err(state.refuse("kill", "process")),
            _ if is_init && (request.all || matches!(state, State::Paused(_))) => {
                container.runtime.kill(&container.id, request.signal, request.all).map_err(|e| e.of_kill())
            }
            State::Added | State::Launching => {
                Err(TaskError::new(Kind::FailedPrecondition, "process not created"))
            }
            State::Stopped(_) => Err(finished()),
            State::Created(child)
            | State::Starting(child, _)
            | State::Running(child)
            | State::Paused(child) => send(child, request.signal),
        }
    }

    /// `Task.Pause`.
    pub(super) fn pause(&self, request: &PauseRequest) -> Result<(), TaskError> {
        let container = self.container(&request.id)?;
        let _changing = container.changing();
        let state = container.init.state();
        if matches!(state, State::Created(_) | State::Added) {
            return Err(TaskError::new(Kind::FailedPrecondition, "cannot pause task in created state"));
        }
        let State::Running(_) = state else { return Err(state.refuse("pause", "container")) };
        container.runtime.pause(&container.id).map_err(|e| e.during("pause"))?;
        let mut inner = container.init.lock();
        if let State::Running(child) = inner.state.clone() {
            inner.state = State::Paused(child);
        }
        drop(inner);
        self.events.publish(&TaskPaused { container_id: container.id.clone() });
        Ok(())
    }

    /// `Task.Resume`.
    pub(super) fn resume(&self, request: &ResumeRequest) -> Result<(), TaskError> {
        let container = self.container(&request.id)?;
        let _changing = container.changing();
        let state = container.init.state();
        if matches!(state, State::Created(_) | State::Added) {
            return Err(TaskError::new(Kind::FailedPrecondition, "cannot resume task in created state"));
        }
        let State::Paused(_) = state else { return Err(state.refuse("resume", "container")) };
        container.runtime.resume(&container.id).map_err(|e| e.during("resume"))?;
        let mut inner = container.init.lock();
        if let State::Paused(child) = inner.state.clone() {
            inner.state = State::Running(child);
        }
        drop(inner);
        self.events.publish(&TaskResumed { container_id: container.id.clone() });
        Ok(())
    }

    /// `Task.Update`.
    pub(super) fn update(&self, request: &UpdateTaskRequest) -> Result<(), TaskError> {
        let container = self.container(&request.id)?;
        let _changing = container.changing();
        let state = container.init.state();
        if state.child().is_none() {
            return Err(state.refuse("update", "container"));
        }
        let Some(resources) = &request.resources else {
            return Err(TaskError::new(Kind::InvalidArgument, "update without resources"));
        };
        container.runtime.update(&container.id, &resources.value).map_err(|e| e.during("update"))
    }
}

fn send(child: &Child, signal: u32) -> Result<(), TaskError> {
    let number = i32::try_from(signal).ok().filter(|n| (0..=64).contains(n));
    let number = number.ok_or_else(|| {
        TaskError::new(Kind::InvalidArgument, format_args!("signal {signal} is not from 0 to 64"))
    })?;
    match wharf_sys::pidfd::send_signal(&*child.fd, number) {
        Ok(()) => Ok(()),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Err(finished()),
        Err(e) => Err(TaskError::failed(format_args!("signal {signal} to process {}: {e}", child.pid))),
    }
}

fn finished() -> TaskError {
    TaskError::new(Kind::NotFound, "process already finished")
}
