//! The lock on a container's directory: who makes the container holds it, and who deletes it, so that neither meets
//! what the other has half done.

use super::{StateDir, StateError, failed};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open, stat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Held until it is dropped, or its process dies. Children get it with the other descriptors: one that goes on for
/// long gives it up with [`Lock::leave`].
#[derive(Debug)]
pub struct Lock(Option<OwnedFd>);

impl StateDir {
    /// Takes the lock; None if another has it, or had it and has removed the directory since.
    pub fn try_lock(&self) -> Result<Option<Lock>, StateError> {
        let fd = match open(&self.0, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(StateError::NotFound),
            Err(e) => return Err(failed("opening", &self.0)(e.into())),
        };
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
            Err(e) => return Err(failed("locking", &self.0)(e.into())),
        }
        let lock = Lock(Some(fd));
        // the name may be another directory's by now
        let same = match (lock.0.as_ref().map(fstat), stat(&self.0)) {
            (Some(Ok(ours)), Ok(named)) => (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino),
            _ => false,
        };
        Ok(same.then_some(lock))
    }
}

impl Lock {
    /// In a child: closes its descriptor and leaves the lock to the parent.
    pub fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(fd) = &self.0 {
            // closing would not do while a child still has it
            let _ = flock(fd, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::StateRoot;
    use super::*;

    #[test]
    fn one_at_a_time_has_the_lock() {
        let at = tempfile::tempdir().unwrap();
        let dir = StateRoot::new(at.path()).create("a").unwrap();
        let lock = dir.try_lock().unwrap().unwrap();
        assert!(dir.try_lock().unwrap().is_none());
        drop(lock);
        assert!(dir.try_lock().unwrap().is_some());
    }

    #[test]
    fn a_copy_that_a_child_has_does_not_hold_the_lock() {
        let at = tempfile::tempdir().unwrap();
        let dir = StateRoot::new(at.path()).create("a").unwrap();
        let lock = dir.try_lock().unwrap().unwrap();
        let copy = Lock(lock.0.as_ref().map(|fd| fd.try_clone().unwrap()));
        copy.leave();
        assert!(dir.try_lock().unwrap().is_none());
        let copy = lock.0.as_ref().map(|fd| fd.try_clone().unwrap());
        drop(lock);
        assert!(dir.try_lock().unwrap().is_some());
        drop(copy);
    }

    #[test]
    fn a_directory_that_is_gone_cannot_be_locked() {
        let at = tempfile::tempdir().unwrap();
        let dir = StateRoot::new(at.path()).create("a").unwrap();
        dir.remove().unwrap();
        assert!(matches!(dir.try_lock(), Err(StateError::NotFound)));
    }
}
