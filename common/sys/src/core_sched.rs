//! Core scheduling: processes that may share a core's hardware threads.

use std::io;

/// The prctl that makes and shares core scheduling cookies (linux/prctl.h).
const PR_SCHED_CORE: libc::c_int = 62;
const PR_SCHED_CORE_CREATE: libc::c_ulong = 1;
const PR_SCHED_CORE_GET: libc::c_ulong = 0;
const PIDTYPE_PID: libc::c_ulong = 0;
const PIDTYPE_PGID: libc::c_ulong = 2;

/// Gives the calling process's group a core scheduling cookie of its own.
///
/// # Errors
/// If the kernel or the processor has no core scheduling.
pub fn create_for_process_group() -> io::Result<()> {
    // SAFETY: the call takes numbers only; the last argument is a pointer for another command, null here.
    let ret = unsafe { libc::prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PIDTYPE_PGID, 0) };
    super::check(ret.into()).map(drop)
}

/// The core scheduling cookie of a process; 0 for none.
///
/// # Errors
/// If the kernel or the processor has no core scheduling, or there is no such process.
pub fn cookie(pid: u32) -> io::Result<u64> {
    let mut cookie = 0u64;
    // SAFETY: for this command the last argument points to a u64 that the kernel writes; it lives until the call returns.
    let ret = unsafe {
        libc::prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, libc::c_ulong::from(pid), PIDTYPE_PID, &raw mut cookie)
    };
    super::check(ret.into()).map(|_| cookie)
}

/// Whether the kernel and the processor have core scheduling.
pub fn is_available() -> bool {
    cookie(0).is_ok()
}
