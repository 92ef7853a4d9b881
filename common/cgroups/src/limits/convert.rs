//! Version 1 values in version 2's units.

use super::invalid;
use crate::error::CgroupError;

/// `cpu.weight` (1 to 10000) for `cpu.shares` (2 to 262144); 0 is unset.
///
/// The curve runs through the least, the default (1024 is 100) and the greatest of both scales: the logarithm of the
/// weight is quadratic in that of the shares, as runc since 1.4 and crun have it.
pub fn cpu_shares_to_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1 | 2 => 1,
        262_144.. => 10_000,
        s => {
            let l = (s as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // the bounds hold by the curve; what rounding adds at its ends is cut
            (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
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
