//! One container's task: its shim, and what is known of its processes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prost::Message;
use tokio::task::AbortHandle;
use wharf_containerd::containerd::task::v3::{StateRequest, StateResponse, WaitRequest, WaitResponse};
use wharf_containerd::containerd::v1::types::Status;
use wharf_kinds::Kind;

use crate::bundle::Bundle;
use crate::client::{CallError, Identity, ShimClient};
use crate::endpoint::Endpoint;
use crate::limits;
use crate::observed::Observed;
use crate::process::{Exit, Phase, Process, ProcessState, Processes, Stdio};

/// The way to the shim.
#[derive(Clone)]
pub(crate) enum Link {
    Up(ShimClient),
    /// The shim lives, as far as is known, but could not be connected to yet.
    Awaited,
    /// Given up or torn down; it stays so.
    Down,
}

/// How far its end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A shim serves it.
    Served,
    /// The shim is gone and cleaned up after; how the task ended is kept for whoever deletes it.
    Buried,
    Removed,
}

/// A task that a shim serves, or served.
///
/// What is known is behind a lock that is held for moments only, never while a shim is asked.
pub(crate) struct Task {
    pub(crate) bundle: Bundle,
    /// The shim's program, to clean up with.
    pub(crate) program: PathBuf,
    pub(crate) endpoint: Endpoint,
    link: Arc<Observed<Link>>,
    processes: Mutex<Processes>,
    /// Someone has announced the exit of init.
    announced: AtomicBool,
    /// The task is being removed on purpose: a closing connection is no news.
    ending: AtomicBool,
    /// Someone is taking what is left of it.
    taken: AtomicBool,
    stage: Observed<Stage>,
    /// Ends with the task.
    log: Mutex<Option<AbortHandle>>,
}

impl Task {
    pub(crate) fn new(
        bundle: Bundle,
        program: PathBuf,
        endpoint: Endpoint,
        link: Link,
        init: Process,
    ) -> Arc<Self> {
        Arc::new(Task {
            bundle,
            program,
            endpoint,
            link: Arc::new(Observed::new(link)),
            processes: Mutex::new(Processes::new(init)),
            announced: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            stage: Observed::new(Stage::Served),
            log: Mutex::new(None),
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.bundle.id
    }

    pub(crate) fn processes(&self) -> MutexGuard<'_, Processes> {
        // changes are single assignments: a panic leaves nothing half done
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies the shim's own messages until the task is removed.
    pub(crate) fn keep_log(&self, pump: AbortHandle) {
        if let Some(old) = self.log.lock().unwrap_or_else(PoisonError::into_inner).replace(pump) {
            old.abort();
        }
    }

    pub(crate) fn client(&self) -> Option<ShimClient> {
        self.link.look(|link| match link {
            Link::Up(client) => Some(client.clone()),
            Link::Awaited | Link::Down => None,
        })
    }

    pub(crate) fn is_down(&self) -> bool {
        self.link.look(|link| matches!(link, Link::Down))
    }

    /// Replaces a connection that broke or was awaited.
    pub(crate) fn relink(&self, client: ShimClient) {
        self.link.change(|link| {
            let wanted = !matches!(link, Link::Down);
            if wanted {
                *link = Link::Up(client);
            }
            wanted
        });
    }

    pub(crate) fn unlink(&self) {
        self.link.set(Link::Down);
    }

    pub(crate) async fn call<Q, A>(
        &self,
        method: &'static str,
        request: &Q,
        limit: Duration,
    ) -> Result<A, CallError>
    where
        Q: Message,
        A: Message + Default,
    {
        match self.client() {
            Some(client) => client.call(method, request, limit).await,
            None if self.stage() == Stage::Served => Err(CallError::Closed),
            None => Err(CallError::Refused {
                kind: Kind::NotFound,
                message: "process already finished: not found".into(),
            }),
        }
    }

    /// True for the first caller only: it is the one to announce the exit of init.
    pub(crate) fn claim_announcement(&self) -> bool {
        !self.announced.swap(true, Ordering::AcqRel)
    }

    /// True for the first caller only: it is the one to remove the task.
    pub(crate) fn claim_ending(&self) -> bool {
        !self.ending.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// True for the first caller only: it removes what is left of a buried task.
    pub(crate) fn claim_remains(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Removing them failed: the next caller tries again.
    pub(crate) fn return_remains(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// No shim will say anything more: whoever waits is told what is known.
    pub(crate) fn finish(&self, stage: Stage) {
        self.unlink();
        if let Some(pump) = self.log.lock().unwrap_or_else(PoisonError::into_inner).take() {
            pump.abort();
        }
        let mut processes = self.processes();
        processes.init.lost();
        for exec in processes.execs.values_mut() {
            exec.lost();
        }
        drop(processes);
        self.stage.set(stage);
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Waits until no shim serves the task any more, at most `limit`.
    pub(crate) async fn finished(&self, limit: Duration) -> Stage {
        let over = self.stage.until(|stage| (*stage != Stage::Served).then_some(()));
        // what it is after that time is the answer
        let _ = tokio::time::timeout(limit, over).await;
        self.stage()
    }

    /// What is known of a process, without asking the shim: `Unknown` while the shim is stuck.
    pub(crate) fn known(&self, exec: &str) -> Option<ProcessState> {
        let id = if exec.is_empty() { self.id() } else { exec };
        let mut state = self.processes().get(exec)?.state(id);
        let silent = self.client().is_none_or(|client| client.is_stuck());
        if silent && !matches!(state.phase, Phase::Stopped(_)) {
            state.phase = Phase::Unknown;
        }
        Some(state)
    }

    /// Asks the shim about a process that this daemon did not see made, and remembers it.
    pub(crate) async fn learn(self: &Arc<Self>, exec: &str) -> Result<(), CallError> {
        let request = StateRequest { id: self.id().into(), exec_id: exec.into() };
        let asked = SystemTime::now();
        let answer: StateResponse = self.call("State", &request, limits::STATE).await?;
        self.remember(exec, answer, asked);
        Ok(())
    }

    /// Takes over what a shim says about a process, when it was `asked`.
    pub(crate) fn remember(self: &Arc<Self>, exec: &str, answer: StateResponse, asked: SystemTime) {
        let exit = Exit { pid: answer.pid, status: answer.exit_status, at: answer.exited_at };
        let phase = match Status::try_from(answer.status).unwrap_or(Status::Unknown) {
            Status::Unknown => Phase::Unknown,
            Status::Created => Phase::Created,
            Status::Running => Phase::Running,
            Status::Stopped => Phase::Stopped(exit),
            Status::Paused => Phase::Paused,
            Status::Pausing => Phase::Pausing,
        };
        let stdio = Stdio {
            stdin: answer.stdin,
            stdout: answer.stdout,
            stderr: answer.stderr,
            terminal: answer.terminal,
        };
        let lives = {
            let mut processes = self.processes();
            match processes.get_mut(exec) {
                Some(process) if exec.is_empty() => process.learned(answer.pid, phase, stdio),
                // made or learned meanwhile: the answer may be about an earlier one of that id
                Some(_) => return,
                None => {
                    let mut process = Process::new(answer.pid, phase, stdio);
                    if phase == Phase::Created {
                        process = process.not_before(asked);
                    }
                    processes.execs.insert(exec.into(), process);
                }
            }
            processes.get(exec).is_some_and(|process| process.exit().is_none())
        };
        if lives {
            self.watch(exec);
        }
    }

    /// Asks the shim in the background how the process ends.
    pub(crate) fn watch(self: &Arc<Self>, exec: &str) {
        let (task, exec) = (Arc::downgrade(self), exec.to_owned());
        let request = WaitRequest { id: self.id().into(), exec_id: exec.clone() };
        let link = self.link.clone();
        let Some(outcome) = self.processes().get(&exec).map(Process::outcome) else { return };
        // every task has this future, and it mostly waits
        tokio::spawn(async move {
            let mut tried = None;
            loop {
                let client = tokio::select! {
                    client = link.until(|link| link.other_than(tried.as_ref())) => client,
                    // known from an event, or the exec was deleted
                    _ = outcome.settled() => None,
                };
                let Some(client) = client else { return };
                let answer = tokio::select! {
                    answer = client.call_unbounded::<_, WaitResponse>("Wait", &request) => answer,
                    _ = outcome.settled() => return,
                };
                match answer {
                    Ok(answer) => {
                        let exit = Exit { pid: 0, status: answer.exit_status, at: answer.exited_at };
                        let Some(task) = task.upgrade() else { return };
                        // the id may be another's by now
                        if let Some(process) = task.processes().get_mut(&exec)
                            && process.tells(&outcome)
                        {
                            process.exited(exit);
                        }
                        return;
                    }
                    // it may be connected to again
                    Err(CallError::Closed) => tried = Some(client.identity()),
                    Err(error) => {
                        // the shim does not know it (any more)
                        tracing::debug!(id = request.id, exec, %error, "shim refuses to wait");
                        return;
                    }
                }
            }
        });
    }
}

impl Link {
    /// A connection that was not `tried`, once there is one; `None` within when there will be none.
    fn other_than(&self, tried: Option<&Identity>) -> Option<Option<ShimClient>> {
        match self {
            Link::Up(client) if tried.is_some_and(|tried| tried.is_of(client)) => None,
            Link::Up(client) => Some(Some(client.clone())),
            Link::Awaited => None,
            Link::Down => Some(None),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // whoever waits for its shim has no more to wait for
        self.unlink();
    }
}
