//! The database's file as redb uses it: space is reserved when the file grows, failures are remembered, and a flush may
//! be put off until after the answer.
//!
//! redb trusts nothing after a failed read or write and refuses everything until the file is opened anew. Who holds
//! the database asks [`Health`] whether that is due.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::later::Later;

/// Whether an operation on the file has failed since it was opened.
#[derive(Debug, Clone, Default)]
pub(super) struct Health(Arc<AtomicBool>);

impl Health {
    pub(super) fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn watch<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if outcome.is_err() {
            self.0.store(true, Ordering::Release);
        }
        outcome
    }
}

/// Whether the next flush is not waited for. Whoever commits sets it just before, while no other writer can.
#[derive(Debug, Clone, Default)]
pub(super) struct PutOff {
    next: Arc<AtomicBool>,
    /// How many were.
    #[cfg(test)]
    pub(super) count: Arc<std::sync::atomic::AtomicUsize>,
}

impl PutOff {
    pub(super) fn set(&self, put_off: bool) {
        self.next.store(put_off, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.next.swap(false, Ordering::AcqRel)
    }
}

#[derive(Debug)]
pub(super) struct Backend {
    inner: FileBackend,
    /// The same open file.
    file: File,
    health: Health,
    put_off: PutOff,
    later: Later,
}

impl Backend {
    /// Opens or creates the file, readable by its owner only.
    pub(super) fn open(path: &Path, health: Health, put_off: PutOff) -> Result<Self, DatabaseError> {
        super::unfinished::clear(path)?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let inner = FileBackend::new(file.try_clone()?)?;
        Ok(Self { inner, file, health, put_off, later: Later::new(path) })
    }

    /// Space is taken now, so that only growing can find the disk full, never a write to what is there: a full disk
    /// then leaves a database that can be opened, read and have records removed.
    fn resize(&self, len: u64) -> io::Result<()> {
        let now = self.file.metadata()?.len();
        if len > now {
            match fallocate(&self.file, FallocateFlags::empty(), now, len - now) {
                Ok(()) => return Ok(()),
                // not every file system can reserve
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => {
                    // some file systems keep the part that fitted
                    let _ = self.file.set_len(now);
                    return Err(error.into());
                }
            }
        }
        self.inner.set_len(len)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.health.watch(self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.health.watch(self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.watch(self.later.settle().and_then(|()| self.resize(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let put_off = self.put_off.take();
        self.health.watch(self.later.settle().and_then(|()| {
            // where no thread can be had for it, now is as good
            if put_off && self.later.flush(&self.file).is_ok() {
                #[cfg(test)]
                self.put_off.count.fetch_add(1, Ordering::AcqRel);
                return Ok(());
            }
            self.inner.sync_data()
        }))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.health.watch(self.later.settle().and_then(|()| self.inner.write(offset, data)))
    }

    fn close(&self) -> io::Result<()> {
        let settled = self.later.settle();
        self.inner.close().and(settled)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_thread_for_it_a_flush_is_made_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (health, put_off) = (Health::default(), PutOff::default());
        let mut backend = Backend::open(&dir.path().join("t"), health.clone(), put_off.clone()).unwrap();
        backend.later = Later::that_cannot_start();
        put_off.set(true);
        backend.sync_data().unwrap();
        assert!(!health.is_broken());
        assert_eq!(put_off.count.load(Ordering::Acquire), 0);
    }
}
