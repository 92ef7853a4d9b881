//! What everybody else sees of a container: an immutable picture, replaced at every change.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::actor::Command;
use super::record::Record;
use crate::error::EngineError;

/// A container at one moment.
#[derive(Debug, Clone)]
pub struct View {
    pub record: Arc<Record>,
    /// Removal has begun.
    pub removing: bool,
    /// It is gone.
    pub removed: bool,
    /// Exits seen by this daemon, and the code of the last.
    pub exits: u64,
    pub last_exit: i64,
    /// Why the last removal failed.
    pub removal_error: Option<String>,
    /// Ids of execs that run.
    pub execs: Vec<String>,
}

impl View {
    /// Docker's word for the state.
    pub fn word(&self) -> &'static str {
        if self.removing { "removing" } else { self.record.phase.word() }
    }
}

/// A way to a container: its picture, and its mailbox.
#[derive(Clone)]
pub struct Handle {
    pub id: String,
    pub(crate) mailbox: mpsc::Sender<Command>,
    pub(crate) view: watch::Receiver<Arc<View>>,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// Satisfied at once by a container that does not run.
    NotRunning,
    NextExit,
    Removed,
}

/// How waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    pub code: i64,
    /// Set when the removal waited for failed.
    pub error: Option<String>,
}

impl Handle {
    /// The present picture.
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Begins to wait: what happened before this call does not count for `NextExit`.
    pub fn waiter(&self, until: WaitFor) -> Waiter {
        let view = self.view.clone();
        let exits = view.borrow().exits;
        Waiter { view, exits, until }
    }

    /// Waits until the container does not run, at most `limit` (none: for ever). True if it does not.
    pub async fn stopped_within(&self, limit: Option<Duration>) -> bool {
        let waiter = self.waiter(WaitFor::NotRunning);
        match limit {
            None => {
                waiter.done().await;
                true
            }
            Some(limit) => tokio::time::timeout(limit, waiter.done()).await.is_ok(),
        }
    }

    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(tokio::sync::oneshot::Sender<Result<T, EngineError>>) -> Command,
    ) -> Result<T, EngineError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let gone = || EngineError::NoSuchContainer(self.id.clone());
        self.mailbox.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Somebody who waits.
pub struct Waiter {
    view: watch::Receiver<Arc<View>>,
    exits: u64,
    until: WaitFor,
}

impl Waiter {
    /// Resolves when the condition holds, or when the container is gone.
    pub async fn done(mut self) -> Waited {
        loop {
            {
                let view = self.view.borrow_and_update();
                let exited = view.exits > self.exits;
                let code = if exited { view.last_exit } else { view.record.phase.exit_code() };
                let met = match self.until {
                    _ if view.removed => true,
                    WaitFor::NotRunning => exited || !view.record.phase.counts_as_running(),
                    WaitFor::NextExit => exited,
                    WaitFor::Removed => view.removal_error.is_some(),
                };
                if met {
                    let error =
                        if self.until == WaitFor::Removed { view.removal_error.clone() } else { None };
                    return Waited { code, error };
                }
            }
            if self.view.changed().await.is_err() {
                let view = self.view.borrow();
                let code =
                    if view.exits > self.exits { view.last_exit } else { view.record.phase.exit_code() };
                return Waited { code, error: None };
            }
        }
    }
}
