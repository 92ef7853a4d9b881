//! Scheduling, I/O priority and execution domain of the calling process.

use crate::check;
use std::io;

/// `struct sched_attr`, version 0 (include/uapi/linux/sched/types.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// sched_setattr(2) for the caller; `size` is filled in.
pub fn set_scheduler(mut attr: SchedAttr) -> io::Result<()> {
    attr.size = size_of::<SchedAttr>() as u32;
    // SAFETY: `attr` has the kernel's layout and states its size; it is only read.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })?;
    Ok(())
}

/// sched_setaffinity(2) for the caller: CPU n is bit n % 64 of word n / 64. CPUs that the kernel cannot have are cut off by it.
pub fn set_affinity(mask: &[u64]) -> io::Result<()> {
    // SAFETY: `mask` is memory of the size that is given; it is only read.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) })?;
    Ok(())
}

/// ioprio_set(2) for the caller: class 1 real-time, 2 best-effort, 3 idle; level 0 to 7.
pub fn set_io_priority(class: u8, level: u8) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let value = (libc::c_int::from(class) << 13) | libc::c_int::from(level);
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })?;
    Ok(())
}

/// personality(2).
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(persona)) })?;
    Ok(())
}
