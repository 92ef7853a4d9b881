//! A process of a container: its init or an exec.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prost::Message;
use wharf_containerd::containerd::task::v3::WaitResponse;
use wharf_containerd::containerd::v1::types::Status;
use wharf_kinds::Kind;

use crate::error::TaskError;
use crate::io::{Console, SessionId};
use crate::reaper::Exit;
use crate::runtime::{Checkpoint, ChildStdio};
use crate::ttrpc::Responder;

/// A live process: its pid, and the descriptor that is sure to mean it.
#[derive(Debug, Clone)]
pub(super) struct Child {
    pub pid: u32,
    pub fd: Arc<OwnedFd>,
}

/// Where a process is in its life.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// An exec, or an init that goes on from a checkpoint, that was not started.
    Added,
    /// The runtime is starting it.
    Launching,
    /// An init that waits for the runtime's `start`.
    Created(Child),
    /// An init that the runtime is starting, and its end if that came meanwhile: a start is announced
    /// before an end.
    Starting(Child, Option<Exit>),
    /// It runs.
    Running(Child),
    /// It is frozen with its container.
    Paused(Child),
    /// It has ended.
    Stopped(Exit),
    /// It has ended and was deleted.
    Deleted(Exit),
}

impl State {
    pub(super) fn child(&self) -> Option<&Child> {
        match self {
            State::Created(c) | State::Starting(c, _) | State::Running(c) | State::Paused(c) => Some(c),
            State::Added | State::Launching | State::Stopped(_) | State::Deleted(_) => None,
        }
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        match self {
            State::Stopped(exit) | State::Deleted(exit) => Some(*exit),
            _ => None,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child().map(|c| c.pid).or(self.exit().map(|e| e.pid)).unwrap_or(0)
    }

    pub(super) fn status(&self) -> Status {
        match self {
            State::Added | State::Launching | State::Created(_) | State::Starting(..) => Status::Created,
            State::Running(_) => Status::Running,
            State::Paused(_) => Status::Paused,
            State::Stopped(_) | State::Deleted(_) => Status::Stopped,
        }
    }

    /// The word in error texts.
    pub(super) fn word(&self) -> &'static str {
        match self {
            State::Added | State::Launching | State::Created(_) | State::Starting(..) => "created",
            State::Running(_) => "running",
            State::Paused(_) => "paused",
            State::Stopped(_) => "stopped",
            State::Deleted(_) => "deleted",
        }
    }

    /// The refusal of something that this state does not allow, in containerd's words.
    pub(super) fn refuse(&self, act: &str, what: &str) -> TaskError {
        let kind = if matches!(self, State::Deleted(_)) { Kind::NotFound } else { Kind::FailedPrecondition };
        TaskError::new(kind, format_args!("cannot {act} a {} {what}", self.word()))
    }
}

/// The stdio fields of the request that made a process.
#[derive(Debug, Clone, Default)]
pub(super) struct Stdio {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// How an exec is to be started.
#[derive(Debug)]
pub(super) struct ExecPlan {
    /// The OCI process, as JSON.
    pub process: Vec<u8>,
    pub pipes: [bool; 3],
    pub direct: ChildStdio,
}

/// How an init goes on from a checkpoint.
#[derive(Debug)]
pub(super) struct RestorePlan {
    pub from: Checkpoint,
    pub pipes: [bool; 3],
    pub direct: ChildStdio,
}

/// See the module.
pub(super) struct Process {
    /// `None` for the init.
    pub exec_id: Option<String>,
    pub stdio: Stdio,
    pub session: SessionId,
    inner: Mutex<Inner>,
    stopped: Condvar,
}

pub(super) struct Inner {
    pub state: State,
    pub console: Option<Console>,
    /// What an exec is started with, until it is.
    pub plan: Option<ExecPlan>,
    /// What an init is restored from, until it is.
    pub restore: Option<RestorePlan>,
    pub logger: Option<crate::io::Logger>,
    waiters: Vec<Responder>,
}

impl Process {
    pub(super) fn new(exec_id: Option<String>, stdio: Stdio, session: SessionId, state: State) -> Process {
        let inner =
            Inner { state, console: None, plan: None, restore: None, logger: None, waiters: Vec::new() };
        Process { exec_id, stdio, session, inner: Mutex::new(inner), stopped: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the state now.
    pub(super) fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Answers with the exit, now or when it comes.
    pub(super) fn wait(&self, responder: Responder) {
        let mut inner = self.lock();
        match inner.state.exit() {
            Some(exit) => {
                drop(inner);
                responder.ok(wait_response(&exit));
            }
            None => inner.waiters.push(responder),
        }
    }

    /// The process has ended and all that precedes the news was done: those who wait are answered. Returns
    /// false if that was known.
    pub(super) fn stop(&self, exit: Exit) -> bool {
        let mut inner = self.lock();
        if inner.state.exit().is_some() {
            return false;
        }
        inner.state = State::Stopped(exit);
        let waiters = std::mem::take(&mut inner.waiters);
        self.stopped.notify_all();
        drop(inner);
        for waiter in waiters {
            waiter.ok(wait_response(&exit));
        }
        true
    }

    /// Waits for [`Process::stop`].
    pub(super) fn wait_stopped(&self, timeout: Duration) -> Option<Exit> {
        let deadline = Instant::now() + timeout;
        let mut inner = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if inner.state.exit().is_some() || left.is_zero() {
                return inner.state.exit();
            }
            inner = self.stopped.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn wait_response(exit: &Exit) -> Vec<u8> {
    WaitResponse { exit_status: exit.status, exited_at: exited_at(exit) }.encode_to_vec()
}

/// The time of an exit; one that is only made up for a process that never was has none.
pub(super) fn exited_at(exit: &Exit) -> Option<prost_types::Timestamp> {
    (exit.at != SystemTime::UNIX_EPOCH).then(|| exit.at.into())
}
