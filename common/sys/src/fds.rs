//! Descriptors in bulk.

use crate::check;
use std::io;

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

/// Whether the number is an open descriptor.
pub fn is_open(fd: i32) -> bool {
    // SAFETY: F_GETFD reads a flag only.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}
