//! Which commits are on disk, and who flushes them.
//!
//! A writer that sees others waiting commits without a flush and lets the last of them flush for all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// So many commits may wait for one flush, lest a steady stream of writers put it off for ever.
const MOST_PENDING: u64 = 64;

#[derive(Default)]
pub(super) struct Group {
    /// Writers that have arrived and not yet got their turn.
    queue: AtomicUsize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    newest: u64,
    flushed: u64,
    /// Commits up to this number were lost by a failed flush.
    failed: Option<(u64, String)>,
}

pub(super) struct Waiting<'a>(&'a Group);

impl Waiting<'_> {
    /// The writer got its turn. Whether nobody waits behind it.
    pub(super) fn entered(self) -> bool {
        self.0.queue.fetch_sub(1, Ordering::SeqCst) == 1
    }
}

impl Group {
    pub(super) fn arrive(&self) -> Waiting<'_> {
        self.queue.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // the state is plain numbers, whole at every instant
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_overdue(&self) -> bool {
        let state = self.state();
        state.newest - state.flushed >= MOST_PENDING
    }

    /// The number of the commit about to be made.
    pub(super) fn ticket(&self) -> u64 {
        let mut state = self.state();
        state.newest += 1;
        state.newest
    }

    pub(super) fn newest_pending(&self) -> Option<u64> {
        let state = self.state();
        (state.newest > state.flushed).then_some(state.newest)
    }

    /// Everything up to `ticket` is on disk, or lost.
    pub(super) fn flushed(&self, ticket: u64, outcome: Result<(), String>) {
        let mut state = self.state();
        state.flushed = state.flushed.max(ticket);
        if let Err(text) = outcome {
            state.failed = Some((ticket, text));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whatever is not on disk yet never will be.
    pub(super) fn lost(&self, why: &str) {
        if let Some(newest) = self.newest_pending() {
            self.flushed(newest, Err(why.into()));
        }
    }

    /// Waits until the commit is on disk. If nobody is left who would flush, the caller does.
    pub(super) fn wait(&self, ticket: u64, flush: impl Fn()) -> Result<(), super::StoreError> {
        loop {
            let state = self.state();
            if state.flushed >= ticket {
                return match &state.failed {
                    Some((lost, text)) if *lost >= ticket => Err(super::StoreError::Flush(text.clone())),
                    _ => Ok(()),
                };
            }
            if self.queue.load(Ordering::SeqCst) == 0 {
                drop(state);
                flush();
                continue;
            }
            // a short limit, since the last in the queue may have left between the two looks
            let wait = std::time::Duration::from_millis(5);
            let _ = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
