//! Flushing after the answer: the file is flushed by a thread, and nothing is written to it meanwhile.
//!
//! So a flush still separates all that was written before from all that is written after, which is what a database
//! needs to be whole after a power cut; only whoever asked for this flush does not wait for it. What was written is with
//! the kernel: the end of this process loses nothing of it.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The thread, started with the first flush that is put off.
#[derive(Debug, Default)]
pub(super) struct Later {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_due: bool,
    failed: Option<io::ErrorKind>,
    stop: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // plain values, whole at every instant
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, file: &File) {
        let mut state = self.state();
        loop {
            if state.is_due {
                drop(state);
                let flushed = file.sync_data();
                state = self.state();
                state.is_due = false;
                state.failed = flushed.err().map(|error| error.kind());
                self.changed.notify_all();
            } else if state.stop {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Later {
    /// Has the file flushed. An error means that it will not be.
    pub(super) fn flush(&self, file: &File) -> io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (shared, file) = (Arc::clone(&self.shared), file.try_clone()?);
            let run = move || shared.run(&file);
            // it calls the kernel and nothing else
            let started = std::thread::Builder::new().name("flush".into()).stack_size(64 << 10).spawn(run)?;
            *thread = Some(started);
        }
        drop(thread);
        self.shared.state().is_due = true;
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits for the end of a flush under way. An error is one of the last flush, and stays.
    pub(super) fn settle(&self) -> io::Result<()> {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_while(state, |state| state.is_due);
        match waited.unwrap_or_else(PoisonError::into_inner).failed {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.changed.notify_all();
        // it holds the file, whose lock ends with the last descriptor
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_off_has_ended_once_it_is_settled() {
        let file = tempfile::tempfile().expect("file");
        let later = Later::default();
        later.settle().expect("nothing is due");
        for _ in 0..100 {
            later.flush(&file).expect("flush");
            later.settle().expect("flushed");
            assert!(!later.shared.state().is_due);
        }
        later.flush(&file).expect("flush");
    }

    #[test]
    fn a_failure_is_told_to_whoever_writes_next() {
        // a pipe cannot be flushed
        let (end, _other) = std::io::pipe().expect("pipe");
        let file = File::from(std::os::fd::OwnedFd::from(end));
        let later = Later::default();
        later.flush(&file).expect("asked for");
        assert_eq!(later.settle().expect_err("failed").kind(), io::ErrorKind::InvalidInput);
    }
}
