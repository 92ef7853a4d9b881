//! Layers to disk before their records: one `syncfs` for all who wait at the same time.
//!
//! A `syncfs` covers what was written before it began. Whoever comes while one is under way waits for the next, so
//! many layers cost two at most.

mod few;

use std::io;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, PoisonError};

pub(crate) use few::flush_few;

#[derive(Debug, Default)]
pub(crate) struct Flushes {
    state: Mutex<State>,
    finished: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Flushes begun so far.
    begun: u64,
    /// Of these, the last one that succeeded.
    succeeded: u64,
    running: bool,
}

impl Flushes {
    /// Returns once everything written before this call is on disk. `on` is on the file system in question.
    pub(crate) fn flush(&self, on: impl AsFd) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // one that runs now may have passed over what this caller wrote
        let wanted = state.begun + 1;
        loop {
            if state.succeeded >= wanted {
                return Ok(());
            }
            if !state.running {
                break;
            }
            state = self.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.begun += 1;
        state.running = true;
        let number = state.begun;
        drop(state);
        let outcome = rustix::fs::syncfs(&on);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = false;
        if outcome.is_ok() {
            state.succeeded = number;
        }
        drop(state);
        self.finished.notify_all();
        // after a failure the others try for themselves, so that each hears of its own
        Ok(outcome?)
    }

    #[cfg(test)]
    fn begun(&self) -> u64 {
        self.state.lock().unwrap().begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_together_share_a_flush() {
        let flushes = Flushes::default();
        let dir = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(dir.path()).unwrap();
        // as if one were under way
        {
            let mut state = flushes.state.lock().unwrap();
            (state.begun, state.running) = (1, true);
        }
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| flushes.flush(&directory))).collect();
            {
                let mut state = flushes.state.lock().unwrap();
                (state.succeeded, state.running) = (1, false);
            }
            flushes.finished.notify_all();
            for one in waiting {
                one.join().unwrap().unwrap();
            }
        });
        assert!((2..=9).contains(&flushes.begun()));
        let before = flushes.begun();
        flushes.flush(&directory).unwrap();
        assert_eq!(flushes.begun(), before + 1, "what is written later needs a flush of its own");
    }
}
