//! Signals by pidfd with any number, real-time signals and 0 included (rustix knows the named ones only).

use crate::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// pidfd_send_signal(2). `signal` 0 only tests for existence. ESRCH: the process is gone.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the siginfo pointer may be null (pidfd_send_signal(2)); no other pointers.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}
