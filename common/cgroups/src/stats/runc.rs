//! [`Stats`] in the shape of runc's `events --stats`: the `data` of a `stats` event (runc's types/events.go).
//!
//! Empty numbers are left out where runc leaves them out. The `intel_rdt` object is not given.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Counter, CpuSet, IoEntry, Pressure, Stats, UNLIMITED};

/// The `data` object.
#[derive(Debug, Serialize)]
pub struct Data<'a> {
    cpu: Cpu<'a>,
    cpuset: CpuSet,
    memory: Memory<'a>,
    pids: Pids,
    blkio: Blkio<'a>,
    hugetlb: BTreeMap<&'a str, Hugetlb>,
}

fn zero(n: &u64) -> bool {
    *n == 0
}

fn empty<T: Default + PartialEq>(part: &T) -> bool {
    *part == T::default()
}

#[derive(Debug, Serialize)]
struct Cpu<'a> {
    #[serde(skip_serializing_if = "empty")]
    usage: CpuUsage<'a>,
    #[serde(skip_serializing_if = "empty")]
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct CpuUsage<'a> {
    #[serde(skip_serializing_if = "zero")]
    total: u64,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    percpu: &'a [u64],
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    percpu_kernel: &'a [u64],
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    percpu_user: &'a [u64],
    kernel: u64,
    user: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "zero")]
    periods: u64,
    #[serde(skip_serializing_if = "zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "zero")]
    throttled_time: u64,
}

#[derive(Debug, Serialize)]
struct Memory<'a> {
    #[serde(skip_serializing_if = "zero")]
    cache: u64,
    #[serde(skip_serializing_if = "empty")]
    usage: MemoryEntry,
    #[serde(skip_serializing_if = "empty")]
    swap: MemoryEntry,
    #[serde(skip_serializing_if = "empty")]
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP", skip_serializing_if = "empty")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "zero")]
    usage: u64,
    #[serde(skip_serializing_if = "zero")]
    max: u64,
    failcnt: u64,
}

impl From<Counter> for MemoryEntry {
    fn from(c: Counter) -> Self {
        MemoryEntry { limit: c.limit, usage: c.usage, max: c.max_usage, failcnt: c.failcnt }
    }
}

#[derive(Debug, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "zero")]
    current: u64,
    #[serde(skip_serializing_if = "zero")]
    limit: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<Entry<'a>>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    io_queued_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_time_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_wait_time_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_merged_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_time_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sectors_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    #[serde(skip_serializing_if = "zero")]
    major: u64,
    #[serde(skip_serializing_if = "zero")]
    minor: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    op: &'a str,
    #[serde(skip_serializing_if = "zero")]
    value: u64,
}

#[derive(Debug, Serialize)]
struct Hugetlb {
    #[serde(skip_serializing_if = "zero")]
    usage: u64,
    #[serde(skip_serializing_if = "zero")]
    max: u64,
    failcnt: u64,
}

fn entries(list: &[IoEntry]) -> Vec<Entry<'_>> {
    list.iter().map(|e| Entry { major: e.major, minor: e.minor, op: &e.op, value: e.value }).collect()
}

impl Stats {
    /// The same numbers in runc's shape.
    pub fn to_runc(&self, cpuset: CpuSet) -> Data<'_> {
        let memory = &self.memory;
        let swap = memory.swap.map(|mut swap| {
            // runc's swap is memory and swap together on both versions
            if self.v2 {
                swap.usage = swap.usage.saturating_add(memory.usage.usage);
                swap.limit = swap.limit.saturating_add(memory.usage.limit);
            }
            swap
        });
        Data {
            cpu: Cpu {
                usage: CpuUsage {
                    total: self.cpu.total_ns,
                    percpu: &self.cpu.per_cpu_ns,
                    percpu_kernel: &self.cpu.per_cpu_system_ns,
                    percpu_user: &self.cpu.per_cpu_user_ns,
                    kernel: self.cpu.system_ns,
                    user: self.cpu.user_ns,
                },
                throttling: Throttling {
                    periods: self.cpu.periods,
                    throttled_periods: self.cpu.throttled_periods,
                    throttled_time: self.cpu.throttled_ns,
                },
                psi: self.cpu.pressure,
            },
            cpuset,
            memory: Memory {
                cache: memory.stat.get(if self.v2 { "file" } else { "cache" }).copied().unwrap_or(0),
                usage: memory.usage.into(),
                swap: swap.map(Into::into).unwrap_or_default(),
                kernel: memory.kernel.map(Into::into).unwrap_or_default(),
                kernel_tcp: memory.kernel_tcp.map(Into::into).unwrap_or_default(),
                raw: &memory.stat,
                psi: memory.pressure,
            },
            pids: Pids {
                current: self.pids.current,
                limit: if self.pids.limit == UNLIMITED { 0 } else { self.pids.limit },
            },
            blkio: Blkio {
                io_service_bytes_recursive: entries(&self.io.service_bytes),
                io_serviced_recursive: entries(&self.io.serviced),
                io_queued_recursive: entries(&self.io.queued),
                io_service_time_recursive: entries(&self.io.service_time),
                io_wait_time_recursive: entries(&self.io.wait_time),
                io_merged_recursive: entries(&self.io.merged),
                io_time_recursive: entries(&self.io.time),
                sectors_recursive: entries(&self.io.sectors),
                psi: self.io.pressure,
            },
            hugetlb: self
                .hugetlb
                .iter()
                .map(|h| {
                    let Counter { usage, max_usage, failcnt, .. } = h.usage;
                    (h.page_size.as_str(), Hugetlb { usage, max: max_usage, failcnt })
                })
                .collect(),
        }
    }
}
