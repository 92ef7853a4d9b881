//! What a cgroup has used.
//!
//! One struct for every consumer: containerd's metrics of both versions, `events --stats` and Docker's stats. Fields
//! that a version does not have stay empty or zero. Times are nanoseconds, sizes are bytes, [`UNLIMITED`] stands for
//! "no limit".

mod cpuset;
mod parse;
pub mod runc;
mod v1;
mod v2;

use std::collections::BTreeMap;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use cpuset::CpuSet;

use crate::cgroup::{Cgroup, Dir};
use crate::error::CgroupError;
use crate::file::read_at;
use crate::hierarchy::Mode;
use std::os::fd::AsFd;

/// A limit that is not set: `max`, `-1`, or version 1's highest page-aligned value.
pub const UNLIMITED: u64 = u64::MAX;

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Whether the numbers come from version 2's files.
    pub v2: bool,
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub io: Io,
    /// Huge pages, one entry a page size.
    pub hugetlb: Vec<Hugetlb>,
    /// RDMA, one entry a device.
    pub rdma: Vec<Rdma>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// All of it, in nanoseconds.
    pub total_ns: u64,
    /// In user mode, in nanoseconds.
    pub user_ns: u64,
    /// In the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Each CPU's share, in nanoseconds (v1).
    pub per_cpu_ns: Vec<u64>,
    /// Each CPU's share in user mode (v1).
    pub per_cpu_user_ns: Vec<u64>,
    /// Each CPU's share in the kernel (v1).
    pub per_cpu_system_ns: Vec<u64>,
    /// Periods with a quota in force.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for a new period, in nanoseconds.
    pub throttled_ns: u64,
    /// Periods in which burst was used.
    pub bursts: u64,
    /// Time used beyond the quota by burst, in nanoseconds.
    pub burst_ns: u64,
    /// Pressure (v2).
    pub pressure: Option<Pressure>,
}

/// A usage with its limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Now, in bytes.
    pub usage: u64,
    /// [`UNLIMITED`] if there is none; version 1's memory files then show a number just below 2 to the power of 63.
    pub limit: u64,
    /// The highest so far; 0 where the kernel does not tell.
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Memory.
    pub usage: Counter,
    /// v1: memory and swap together; v2: swap alone.
    pub swap: Option<Counter>,
    /// Kernel memory (v1).
    pub kernel: Option<Counter>,
    /// TCP buffers (v1).
    pub kernel_tcp: Option<Counter>,
    /// Every line of `memory.stat`.
    pub stat: BTreeMap<String, u64>,
    /// Every line of `memory.events` (v2).
    pub events: BTreeMap<String, u64>,
    /// `oom_kill_disable` of `memory.oom_control` (v1).
    pub oom_kill_disable: u64,
    /// Whether processes stand still for want of memory (v1).
    pub under_oom: u64,
    /// Processes killed by the OOM killer.
    pub oom_kill: u64,
    /// Pressure (v2).
    pub pressure: Option<Pressure>,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// [`UNLIMITED`] if there is none.
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Io {
    /// Bytes by operation (`Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`).
    pub service_bytes: Vec<IoEntry>,
    /// Operations by operation.
    pub serviced: Vec<IoEntry>,
    /// Requests waiting (v1, CFQ or BFQ).
    pub queued: Vec<IoEntry>,
    /// Nanoseconds in service (v1).
    pub service_time: Vec<IoEntry>,
    /// Nanoseconds waiting (v1).
    pub wait_time: Vec<IoEntry>,
    /// Requests merged (v1).
    pub merged: Vec<IoEntry>,
    /// Milliseconds of disk time (v1).
    pub time: Vec<IoEntry>,
    /// Sectors (v1).
    pub sectors: Vec<IoEntry>,
    /// The lines of `io.stat` (v2), one a device.
    pub devices: Vec<IoDevice>,
    /// Pressure (v2).
    pub pressure: Option<Pressure>,
}

/// One number of a block device and an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoEntry {
    /// The device.
    pub major: u64,
    /// The device.
    pub minor: u64,
    /// As the kernel spells it; empty where the number is of no operation.
    pub op: String,
    /// The number.
    pub value: u64,
}

/// A device's line of `io.stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoDevice {
    /// The device.
    pub major: u64,
    /// The device.
    pub minor: u64,
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Reads.
    pub rios: u64,
    /// Writes.
    pub wios: u64,
    /// Bytes discarded.
    pub dbytes: u64,
    /// Discards.
    pub dios: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hugetlb {
    /// Such as `2MB`.
    pub page_size: String,
    /// Bytes in use, with their limit.
    pub usage: Counter,
}

/// One RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rdma {
    /// The device's name.
    pub device: String,
    /// Handles in use.
    pub hca_handles: u64,
    /// Objects in use.
    pub hca_objects: u64,
    /// [`UNLIMITED`] if there is none.
    pub hca_handles_limit: u64,
    /// [`UNLIMITED`] if there is none.
    pub hca_objects_limit: u64,
}

/// Pressure stall information: `some` and `full` lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: Stall,
    /// All tasks waited.
    pub full: Stall,
}

/// One line of pressure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// Percent over ten seconds.
    pub avg10: f64,
    /// Percent over a minute.
    pub avg60: f64,
    /// Percent over five minutes.
    pub avg300: f64,
    /// Microseconds in all.
    pub total: u64,
}

impl Cgroup {
    /// Reads everything the cgroup's controllers tell. A controller or a file that is not there leaves its part
    /// empty.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        match self.mode {
            Mode::Unified => v2::read(self),
            Mode::Legacy | Mode::Hybrid => v1::read(self),
        }
    }

    /// Processes of this cgroup that the OOM killer ended; 0 without a memory controller.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let file = if self.mode == Mode::Unified { "memory.events" } else { "memory.oom_control" };
        let Some(text) = self.dir("memory").map(|d| read_optional(d, file)).transpose()?.flatten() else {
            return Ok(0);
        };
        Ok(parse::table(&text).get("oom_kill").copied().unwrap_or(0))
    }
}

/// The file's text, or none if the kernel or this cgroup does not have it.
fn read_optional(dir: &Dir, file: &str) -> Result<Option<String>, CgroupError> {
    match read_at(dir.fd.as_fd(), file) {
        Ok(text) => Ok(Some(text)),
        // EOPNOTSUPP: pressure switched off, or an I/O scheduler without this number
        Err(Errno::NOENT | Errno::OPNOTSUPP | Errno::NODEV) => Ok(None),
        Err(e) => Err(CgroupError::io("read", &dir.path.join(file), e)),
    }
}

fn number(dir: &Dir, file: &str) -> Result<Option<u64>, CgroupError> {
    let Some(text) = read_optional(dir, file)? else { return Ok(None) };
    crate::file::number(&text).map(Some).ok_or_else(|| CgroupError::Malformed {
        path: dir.path.join(file),
        content: crate::file::head(&text),
    })
}

#[cfg(test)]
mod tests;
