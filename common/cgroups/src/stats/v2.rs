//! Version 2's statistics files.

use super::{Counter, Io, IoDevice, IoEntry, Memory, Stats, UNLIMITED, number, parse, read_optional, v1};
use crate::cgroup::{Cgroup, Dir};
use crate::error::CgroupError;

const NS_PER_US: u64 = 1000;

pub(super) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    let mut out = Stats { v2: true, ..Stats::default() };
    let Some(dir) = cgroup.v2() else { return Ok(out) };
    let table = parse::table(&read_optional(dir, "cpu.stat")?.unwrap_or_default());
    let get = |k: &str| table.get(k).copied().unwrap_or(0);
    let ns = |k: &str| get(k).saturating_mul(NS_PER_US);
    out.cpu.total_ns = ns("usage_usec");
    out.cpu.user_ns = ns("user_usec");
    out.cpu.system_ns = ns("system_usec");
    out.cpu.periods = get("nr_periods");
    out.cpu.throttled_periods = get("nr_throttled");
    out.cpu.throttled_ns = ns("throttled_usec");
    out.cpu.bursts = get("nr_bursts");
    out.cpu.burst_ns = ns("burst_usec");
    out.cpu.pressure = read_optional(dir, "cpu.pressure")?.map(|t| parse::pressure(&t));
    out.memory = memory(dir)?;
    out.pids = v1::pids(dir)?;
    out.io = io(dir)?;
    out.hugetlb = v1::hugetlb(dir, "max", "current")?;
    out.rdma = v1::rdma(dir)?;
    Ok(out)
}

fn memory(dir: &Dir) -> Result<Memory, CgroupError> {
    let events = parse::table(&read_optional(dir, "memory.events")?.unwrap_or_default());
    let get = |k: &str| events.get(k).copied().unwrap_or(0);
    let swap = match number(dir, "memory.swap.current")? {
        None => None,
        Some(usage) => Some(Counter {
            usage,
            limit: number(dir, "memory.swap.max")?.unwrap_or(UNLIMITED),
            max_usage: number(dir, "memory.swap.peak")?.unwrap_or(0),
            failcnt: 0,
        }),
    };
    Ok(Memory {
        usage: Counter {
            usage: number(dir, "memory.current")?.unwrap_or(0),
            limit: number(dir, "memory.max")?.unwrap_or(UNLIMITED),
            max_usage: number(dir, "memory.peak")?.unwrap_or(0),
            failcnt: get("max"),
        },
        swap,
        stat: parse::table(&read_optional(dir, "memory.stat")?.unwrap_or_default()),
        oom_kill: get("oom_kill"),
        events,
        pressure: read_optional(dir, "memory.pressure")?.map(|t| parse::pressure(&t)),
        ..Memory::default()
    })
}

fn io(dir: &Dir) -> Result<Io, CgroupError> {
    let devices = parse::io_stat(&read_optional(dir, "io.stat")?.unwrap_or_default());
    let entries = |f: fn(&IoDevice) -> [(&'static str, u64); 3]| -> Vec<IoEntry> {
        devices
            .iter()
            .flat_map(|d| {
                f(d).map(|(op, value)| IoEntry { major: d.major, minor: d.minor, op: op.to_owned(), value })
            })
            .collect()
    };
    Ok(Io {
        service_bytes: entries(|d| [("Read", d.rbytes), ("Write", d.wbytes), ("Discard", d.dbytes)]),
        serviced: entries(|d| [("Read", d.rios), ("Write", d.wios), ("Discard", d.dios)]),
        pressure: read_optional(dir, "io.pressure")?.map(|t| parse::pressure(&t)),
        devices,
        ..Io::default()
    })
}
