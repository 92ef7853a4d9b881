//! The NUMA memory policy of the calling thread.

use crate::check;
use std::io;

/// set_mempolicy(2). `mode` is a MPOL_* mode with its MPOL_F_* flags; bit n of `nodes` (64 bits a word) is node n.
pub fn set_mempolicy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // the kernel takes one bit less than it is told of (set_mempolicy(2), "maxnode")
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let pointer = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits - 1` bits at `pointer`, which `nodes` holds; with none it reads nothing.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })?;
    Ok(())
}
