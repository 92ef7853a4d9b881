//! Loading a seccomp filter.

use crate::check;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One classic BPF instruction (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockFilter {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// SECCOMP_FILTER_FLAG_NEW_LISTENER: the load returns a notification descriptor.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// SECCOMP_FILTER_FLAG_TSYNC_ESRCH: a failed thread sync is an errno, not a thread id (needed beside NEW_LISTENER).
pub const FLAG_TSYNC_ESRCH: u32 = 1 << 4;
const FLAG_TSYNC: u32 = 1;
const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
const BPF_MAXINSNS: usize = 4096;

/// Installs the filter on the calling thread. `flags` are SECCOMP_FILTER_FLAG_* bits.
/// Returns the notification descriptor (close-on-exec) if FLAG_NEW_LISTENER is among them.
/// Needs no_new_privs or CAP_SYS_ADMIN.
pub fn install(filter: &[SockFilter], flags: u32) -> io::Result<Option<OwnedFd>> {
    if filter.is_empty() || filter.len() > BPF_MAXINSNS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let program = libc::sock_fprog {
        len: filter.len() as libc::c_ushort,
        filter: filter.as_ptr().cast_mut().cast::<libc::sock_filter>(),
    };
    // SAFETY: SockFilter and libc::sock_filter have the same repr(C) layout; the kernel copies `len` instructions and
    // writes nothing; the slice outlives the call.
    let ret = check(unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })?;
    if flags & FLAG_NEW_LISTENER != 0 {
        // SAFETY: with NEW_LISTENER a success is a fresh descriptor that nobody else owns.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(ret as i32) }));
    }
    if ret > 0 && flags & FLAG_TSYNC != 0 {
        return Err(io::Error::other(format!("thread {ret} could not take the seccomp filter")));
    }
    Ok(None)
}

/// Whether the kernel knows an action (SECCOMP_GET_ACTION_AVAIL), by its SECCOMP_RET_* number.
pub fn action_available(action: u32) -> bool {
    const SECCOMP_GET_ACTION_AVAIL: libc::c_uint = 2;
    // SAFETY: the kernel reads one u32.
    unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}
