//! Which commits are on disk, and who flushes them.
//!
//! A writer that sees others waiting commits without a flush and lets the last of them flush for all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use wharf_kinds::Kind;

use super::StoreError;

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
    lost: Option<Lost>,
}

/// Commits that a failed flush has lost.
struct Lost {
    first: u64,
    last: u64,
    kind: Kind,
    text: String,
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
    pub(super) fn flushed(&self, ticket: u64, outcome: Result<(), &StoreError>) {
        let mut state = self.state();
        let before = state.flushed;
        state.flushed = before.max(ticket);
        // a flush that began earlier may fail later: what is known of those after it stands
        if let Err(error) = outcome
            && ticket > before
        {
            // where no flush has succeeded since, those lost before may not have heard of it yet
            let first = match &state.lost {
                Some(lost) if lost.last == before => lost.first,
                _ => before + 1,
            };
            state.lost = Some(Lost { first, last: ticket, kind: error.kind(), text: error.to_string() });
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whatever is not on disk yet never will be.
    pub(super) fn lost(&self, why: &str) {
        if let Some(newest) = self.newest_pending() {
            self.flushed(newest, Err(&StoreError::Flush(Kind::Internal, why.into())));
        }
    }

    /// Waits until the commit is on disk. If nobody is left who would flush, the caller does.
    pub(super) fn wait(&self, ticket: u64, flush: impl Fn()) -> Result<(), StoreError> {
        loop {
            let state = self.state();
            if state.flushed >= ticket {
                return match &state.lost {
                    Some(lost) if (lost.first..=lost.last).contains(&ticket) => {
                        Err(StoreError::Flush(lost.kind, lost.text.clone()))
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> StoreError {
        StoreError::Flush(Kind::ResourceExhausted, "full".into())
    }

    #[test]
    fn a_flush_that_fails_late_does_not_hide_a_later_failure() {
        let group = Group::default();
        let tickets: Vec<_> = (0..4).map(|_| group.ticket()).collect();
        group.flushed(tickets[0], Ok(()));
        // the third was to flush for the second; one that began before either ends after it
        group.flushed(tickets[2], Err(&full()));
        group.flushed(tickets[1], Err(&full()));
        let no_flush = || panic!("it was flushed");
        assert!(group.wait(tickets[0], no_flush).is_ok(), "safe before the failure");
        for lost in &tickets[1..3] {
            let error = group.wait(*lost, no_flush).unwrap_err();
            assert_eq!(error.kind(), Kind::ResourceExhausted);
        }
        // one failure after another: nobody is forgotten
        group.flushed(tickets[3], Err(&full()));
        assert!(tickets[1..].iter().all(|lost| group.wait(*lost, no_flush).is_err()));
        assert!(group.wait(tickets[0], no_flush).is_ok());
        let later = [group.ticket(), group.ticket()];
        group.flushed(later[0], Ok(()));
        group.flushed(later[1], Err(&full()));
        assert!(group.wait(later[0], no_flush).is_ok() && group.wait(later[1], no_flush).is_err());
    }
}
