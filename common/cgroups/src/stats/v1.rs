//! Version 1's statistics files.

use super::{
    Counter, Cpu, Hugetlb, Io, IoEntry, Memory, Pids, Rdma, Stats, UNLIMITED, number, parse, read_optional,
};
use crate::cgroup::{Cgroup, Dir};
use crate::error::CgroupError;

/// USER_HZ is 100 on every architecture that containers run on.
const TICK_NS: u64 = 10_000_000;

pub(super) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    let mut out = Stats::default();
    if let Some(dir) = cgroup.dir("cpuacct") {
        accounting(dir, &mut out.cpu)?;
    }
    if let Some(text) = cgroup.dir("cpu").map(|d| read_optional(d, "cpu.stat")).transpose()?.flatten() {
        let table = parse::table(&text);
        let get = |k: &str| table.get(k).copied().unwrap_or(0);
        out.cpu.periods = get("nr_periods");
        out.cpu.throttled_periods = get("nr_throttled");
        out.cpu.throttled_ns = get("throttled_time");
        out.cpu.bursts = get("nr_bursts");
        out.cpu.burst_ns = get("burst_time");
    }
    if let Some(dir) = cgroup.dir("memory") {
        out.memory = memory(dir)?;
    }
    if let Some(dir) = cgroup.dir("pids") {
        out.pids = pids(dir)?;
    }
    if let Some(dir) = cgroup.dir("blkio") {
        out.io = blkio(dir)?;
    }
    if let Some(dir) = cgroup.dir("hugetlb") {
        out.hugetlb = hugetlb(dir, "limit_in_bytes", "usage_in_bytes")?;
    }
    if let Some(dir) = cgroup.dir("rdma") {
        out.rdma = rdma(dir)?;
    }
    Ok(out)
}

fn accounting(dir: &Dir, cpu: &mut Cpu) -> Result<(), CgroupError> {
    cpu.total_ns = number(dir, "cpuacct.usage")?.unwrap_or(0);
    match read_optional(dir, "cpuacct.usage_all")? {
        // "cpu user system", then a line a CPU
        Some(text) => {
            for line in text.lines().skip(1) {
                if let [_, user, system] = parse::numbers(line)[..] {
                    cpu.per_cpu_ns.push(user.saturating_add(system));
                    cpu.per_cpu_user_ns.push(user);
                    cpu.per_cpu_system_ns.push(system);
                }
            }
        }
        None => {
            let text = read_optional(dir, "cpuacct.usage_percpu")?.unwrap_or_default();
            cpu.per_cpu_ns = parse::numbers(&text);
        }
    }
    cpu.user_ns = match number(dir, "cpuacct.usage_user")? {
        Some(ns) => ns,
        None => ticks(dir, "user")?,
    };
    cpu.system_ns = match number(dir, "cpuacct.usage_sys")? {
        Some(ns) => ns,
        None => ticks(dir, "system")?,
    };
    Ok(())
}

fn ticks(dir: &Dir, key: &str) -> Result<u64, CgroupError> {
    let table = parse::table(&read_optional(dir, "cpuacct.stat")?.unwrap_or_default());
    Ok(table.get(key).copied().unwrap_or(0).saturating_mul(TICK_NS))
}

fn counter(dir: &Dir, name: &str) -> Result<Option<Counter>, CgroupError> {
    let file = |part: &str| format!("{name}.{part}");
    let Some(usage) = number(dir, &file("usage_in_bytes"))? else { return Ok(None) };
    let limit = number(dir, &file("limit_in_bytes"))?.unwrap_or(UNLIMITED);
    Ok(Some(Counter {
        usage,
        limit,
        max_usage: number(dir, &file("max_usage_in_bytes"))?.unwrap_or(0),
        failcnt: number(dir, &file("failcnt"))?.unwrap_or(0),
    }))
}

fn memory(dir: &Dir) -> Result<Memory, CgroupError> {
    let oom = parse::table(&read_optional(dir, "memory.oom_control")?.unwrap_or_default());
    let get = |k: &str| oom.get(k).copied().unwrap_or(0);
    Ok(Memory {
        usage: counter(dir, "memory")?.unwrap_or_default(),
        swap: counter(dir, "memory.memsw")?,
        kernel: counter(dir, "memory.kmem")?,
        kernel_tcp: counter(dir, "memory.kmem.tcp")?,
        stat: parse::table(&read_optional(dir, "memory.stat")?.unwrap_or_default()),
        oom_kill_disable: get("oom_kill_disable"),
        under_oom: get("under_oom"),
        oom_kill: get("oom_kill"),
        ..Memory::default()
    })
}

pub(super) fn pids(dir: &Dir) -> Result<Pids, CgroupError> {
    Ok(Pids {
        current: number(dir, "pids.current")?.unwrap_or(0),
        limit: number(dir, "pids.max")?.unwrap_or(UNLIMITED),
    })
}

fn blkio(dir: &Dir) -> Result<Io, CgroupError> {
    let get = |file: &str| -> Result<Vec<IoEntry>, CgroupError> {
        Ok(parse::blkio(&read_optional(dir, file)?.unwrap_or_default()))
    };
    // the schedulers' own numbers where they have any, since throttling counts only what passes it
    let first = |files: [&str; 3]| -> Result<Vec<IoEntry>, CgroupError> {
        for file in files {
            let entries = get(file)?;
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    Ok(Io {
        service_bytes: first([
            "blkio.io_service_bytes_recursive",
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ])?,
        serviced: first([
            "blkio.io_serviced_recursive",
            "blkio.bfq.io_serviced_recursive",
            "blkio.throttle.io_serviced_recursive",
        ])?,
        queued: get("blkio.io_queued_recursive")?,
        service_time: get("blkio.io_service_time_recursive")?,
        wait_time: get("blkio.io_wait_time_recursive")?,
        merged: get("blkio.io_merged_recursive")?,
        time: get("blkio.time_recursive")?,
        sectors: get("blkio.sectors_recursive")?,
        ..Io::default()
    })
}

/// One entry for each `hugetlb.<size>.<limit>` file.
pub(super) fn hugetlb(dir: &Dir, limit: &str, usage: &str) -> Result<Vec<Hugetlb>, CgroupError> {
    let mut out = Vec::new();
    for size in page_sizes() {
        let file = |part: &str| format!("hugetlb.{size}.{part}");
        let Some(now) = number(dir, &file(usage))? else { continue };
        let limit = number(dir, &file(limit))?.unwrap_or(UNLIMITED);
        out.push(Hugetlb {
            usage: Counter {
                usage: now,
                limit,
                max_usage: number(dir, &file("max_usage_in_bytes"))?.unwrap_or(0),
                failcnt: match number(dir, &file("failcnt"))? {
                    Some(n) => n,
                    None => {
                        let events = read_optional(dir, &file("events"))?.unwrap_or_default();
                        parse::table(&events).get("max").copied().unwrap_or(0)
                    }
                },
            },
            page_size: size,
        });
    }
    Ok(out)
}

/// The machine's huge page sizes as cgroup files spell them: `64KB`, `2MB`, `1GB`.
fn page_sizes() -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kilobytes =
            name.strip_prefix("hugepages-").and_then(|n| n.strip_suffix("kB")).and_then(|n| n.parse().ok());
        if let Some(kb) = kilobytes {
            out.push(page_size_name(kb));
        }
    }
    out.sort();
    out
}

pub(super) fn page_size_name(kilobytes: u64) -> String {
    match kilobytes {
        kb if kb >= 1 << 20 && kb % (1 << 20) == 0 => format!("{}GB", kb >> 20),
        kb if kb >= 1 << 10 && kb % (1 << 10) == 0 => format!("{}MB", kb >> 10),
        kb => format!("{kb}KB"),
    }
}

pub(super) fn rdma(dir: &Dir) -> Result<Vec<Rdma>, CgroupError> {
    let current = parse::rdma(&read_optional(dir, "rdma.current")?.unwrap_or_default());
    let limits = parse::rdma(&read_optional(dir, "rdma.max")?.unwrap_or_default());
    Ok(current
        .into_iter()
        .map(|(device, (hca_handles, hca_objects))| {
            let limit = limits.get(&device).copied().unwrap_or((UNLIMITED, UNLIMITED));
            Rdma { device, hca_handles, hca_objects, hca_handles_limit: limit.0, hca_objects_limit: limit.1 }
        })
        .collect())
}
