//! Version 1 values in version 2's units.

use super::invalid;
use crate::error::CgroupError;

/// `cpu.weight` (1 to 10000) for `cpu.shares` (2 to 262144), linear between the ends, as runc 1.1 does; 0 is unset.
pub fn cpu_shares_to_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        s => 1 + ((s.clamp(2, 262_144) - 2) * 9999) / 262_142,
    }
}

/// `io.weight` (1 to 10000) for `blkio.weight` (10 to 1000); 0 is unset.
pub fn blkio_weight_to_io_weight(weight: u16) -> u64 {
    match u64::from(weight) {
        0 => 0,
        w => 1 + (w.clamp(10, 1000) - 10) * 9999 / 990,
    }
}

/// `memory.swap.max` for the OCI `swap`, which counts memory and swap together.
///
/// Nothing if neither is to be changed; -1 is unlimited.
pub fn memory_swap_to_v2(memory: i64, swap: i64) -> Result<Option<i64>, CgroupError> {
    match (memory, swap) {
        (-1, 0) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (_, -1) => Ok(Some(-1)),
        (0 | -1, _) => Err(invalid("memory.swap", "unable to set swap limit without memory limit")),
        (m, _) if m < 0 => Err(invalid("memory.limit", format!("invalid memory value: {m}"))),
        (m, s) if s < m => Err(invalid("memory.swap", "memory+swap limit should be >= memory limit")),
        (m, s) => Ok(Some(s - m)),
    }
}
