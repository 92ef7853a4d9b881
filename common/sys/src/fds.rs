//! Descriptors in bulk.

use crate::check;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Marks every descriptor from `first` on close-on-exec (close_range(2) with CLOSE_RANGE_CLOEXEC).
/// Nothing is closed now, so owned descriptors stay valid; none survives the next exec.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: no pointers; with CLOEXEC the call only sets flags, so no owned descriptor is closed behind its owner.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Clears close-on-exec on the numbered descriptor, so that it is inherited by the program executed next.
/// A number is taken since inherited descriptors (LISTEN_FDS, `--preserve-fds`) have no owner in this process.
pub fn keep_on_exec(fd: i32) -> io::Result<()> {
    // SAFETY: F_SETFD changes a flag only; a bad number is an EBADF.
    check(libc::c_long::from(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }))?;
    Ok(())
}

/// The descriptors that this process was started with, besides the standard streams: nobody's in this process, so they
/// can be closed by number. Clones share the list, which is closed once.
#[derive(Debug, Clone, Default)]
pub struct Inherited(Arc<Mutex<Vec<i32>>>);

impl Inherited {
    /// To be called before this process has opened anything.
    pub fn find() -> io::Result<Self> {
        let own = std::fs::read_dir("/proc/self/fd")?;
        let numbers = own.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let mut numbers: Vec<i32> = numbers.filter(|n| *n > 2).collect();
        // the listing's own is closed by now
        numbers.retain(|n| is_open(*n));
        Ok(Self(Arc::new(Mutex::new(numbers))))
    }

    /// Closes all but the first `kept` after the standard streams.
    pub fn close(&self, kept: u32) {
        let numbers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for fd in numbers.into_iter().filter(|n| i64::from(*n) >= 3 + i64::from(kept)) {
            // SAFETY: open since before this process opened anything, so no value of this process owns it; the list is
            // gone now, so that it is closed once.
            unsafe { libc::close(fd) };
        }
    }
}

/// Whether the number is an open descriptor.
pub fn is_open(fd: i32) -> bool {
    // SAFETY: F_GETFD reads a flag only.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}
