//! Flushing after the answer: the file is flushed by a thread, and nothing is written to it meanwhile.
//!
//! So a flush still separates all that was written before from all that is written after, which is what a database
//! needs to be whole after a power cut; only whoever asked for this flush does not wait for it. What was written is with
//! the kernel: the end of this process loses nothing of it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::io::Errno;

/// For a thread that calls the kernel and nothing else, in bytes.
const STACK: usize = 64 << 10;

/// The thread, started with the first flush that is put off.
#[derive(Debug)]
pub(super) struct Later {
    /// For the log.
    path: PathBuf,
    stack: usize,
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
    failed: Option<Errno>,
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
                state.failed = flushed.err().map(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
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
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.into(), stack: STACK, shared: Arc::default(), thread: Mutex::default() }
    }

    #[cfg(test)]
    pub(super) fn that_cannot_start() -> Self {
        let mut later = Self::new(Path::new("t"));
        // more than there are addresses
        later.stack = 1 << 60;
        later
    }

    /// Has the file flushed. An error means that it will not be.
    pub(super) fn flush(&self, file: &File) -> io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (shared, file) = (Arc::clone(&self.shared), file.try_clone()?);
            let run = move || shared.run(&file);
            let started =
                std::thread::Builder::new().name("flush".into()).stack_size(self.stack).spawn(run)?;
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
            Some(error) => Err(error.into()),
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
        // there may be no writer that came later and heard of it
        if let Some(error) = self.shared.state().failed {
            let (path, error) = (self.path.display(), io::Error::from(error));
            tracing::error!(%path, %error, "the database's last flush failed: a power cut may undo what was written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_off_has_ended_once_it_is_settled() {
        let file = tempfile::tempfile().expect("file");
        let later = Later::new(Path::new("t"));
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
        let later = Later::new(Path::new("t"));
        later.flush(&file).expect("asked for");
        // the number, with which the kernel's own words go
        assert_eq!(later.settle().expect_err("failed").raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    }

    #[test]
    fn a_thread_that_does_not_start_is_an_error_of_that_flush_only() {
        let file = tempfile::tempfile().expect("file");
        let later = Later::that_cannot_start();
        later.flush(&file).expect_err("no thread");
        later.settle().expect("nothing is due");
    }
}
