//! All unsafe code of the workspace: system calls that no safe crate wraps, one call a function.
//!
//! Every wrapper takes borrowed descriptors, returns owned ones, and states in a SAFETY comment why the call
//! cannot break memory or descriptor ownership. What rustix already offers safely is not repeated here.
//! Errors are plain [`std::io::Error`]s: callers add the subject and the act.
#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod bpf;
pub mod core_sched;
pub mod exec;
pub mod fds;
pub mod fork;
pub mod heap;
pub mod inherit;
pub mod keyring;
pub mod loop_device;
pub mod mempolicy;
pub mod mount;
pub mod namespace;
pub mod netif;
pub mod pidfd;
pub mod protected_start;
pub mod sched;
pub mod seccomp;
pub mod signal;

use std::io;

/// Turns the kernel's `-1 and errno` into a result.
fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}
