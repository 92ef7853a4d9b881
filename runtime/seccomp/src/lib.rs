//! OCI seccomp profiles compiled to classic BPF without a solver.
//!
//! A profile says for each system call what happens; between the calls it names the default holds. So an
//! architecture's part of the filter is a function that is constant over ranges of call numbers, and a binary search
//! over those ranges decides each call in few instructions. The result is what runc's filter decides, libseccomp's
//! and runc's ENOSYS for calls newer than the profile together (see the tests).

mod action;
mod arch;
mod assemble;
mod compile;
mod conditions;
mod error;
mod table;

pub use arch::{SUPPORTED, arch_names};
pub use compile::{Program, compile};
pub use error::SeccompError;
pub use table::number;
pub use wharf_sys::seccomp::SockFilter;
