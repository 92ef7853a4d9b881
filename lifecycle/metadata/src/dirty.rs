//! The signal from deletions to the collector.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

#[derive(Default)]
pub(crate) struct Dirty {
    state: Mutex<Signal>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct Signal {
    /// Deletions since the collector last looked.
    pub(crate) deletions: u64,
    /// Changes of any kind since then.
    pub(crate) mutations: u64,
    /// The number of changes from which on the collector wants to hear of them; 0 for never.
    pub(crate) heed_mutations: u64,
    /// Collections that somebody waits for.
    pub(crate) requested: u64,
    /// When something expires that no collection has seen yet, or that the latest one left.
    pub(crate) expires: Option<SystemTime>,
    pub(crate) stop: bool,
}

impl Dirty {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Signal> {
        // plain counters, whole at every instant
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was deleted or lost a reference.
    pub(crate) fn deleted(&self) {
        self.lock().deletions += 1;
        self.changed.notify_all();
    }

    /// Something was changed.
    pub(crate) fn mutated(&self) {
        let mut signal = self.lock();
        signal.mutations += 1;
        if signal.mutations == signal.heed_mutations {
            drop(signal);
            self.changed.notify_all();
        }
    }

    /// Something will expire then.
    pub(crate) fn expires(&self, at: Option<SystemTime>) {
        let Some(at) = at else { return };
        self.change(|signal| signal.expires = Some(signal.expires.map_or(at, |known| known.min(at))));
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    pub(crate) fn wait<'a>(&self, guard: MutexGuard<'a, Signal>, limit: Duration) -> MutexGuard<'a, Signal> {
        self.changed.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
    }
}
