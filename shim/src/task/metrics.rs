//! A cgroup's statistics as containerd's metrics, of the version that the machine has.

use prost_types::Any;
use wharf_cgroups::Stats;
use wharf_cgroups::stats::{Counter, IoEntry, Pressure, Stall, UNLIMITED};
use wharf_containerd::io::containerd::cgroups::{v1, v2};
use wharf_containerd::type_url::{METRICS_V1, METRICS_V2};

/// The metrics as they travel in `Task.Stats`.
pub(super) fn to_any(stats: &Stats) -> Any {
    if stats.v2 {
        wharf_containerd::to_any(METRICS_V2, &metrics_v2(stats))
    } else {
        wharf_containerd::to_any(METRICS_V1, &metrics_v1(stats))
    }
}

fn metrics_v1(s: &Stats) -> v1::Metrics {
    let entry =
        |c: Counter| v1::MemoryEntry { limit: c.limit, usage: c.usage, max: c.max_usage, failcnt: c.failcnt };
    let stat = |key: &str| s.memory.stat.get(key).copied().unwrap_or(0);
    let blk = |entries: &[IoEntry]| {
        let entry = |e: &IoEntry| v1::BlkIoEntry {
            op: e.op.clone(),
            device: String::new(),
            major: e.major,
            minor: e.minor,
            value: e.value,
        };
        entries.iter().map(entry).collect()
    };
    v1::Metrics {
        hugetlb: s
            .hugetlb
            .iter()
            .map(|h| v1::HugetlbStat {
                usage: h.usage.usage,
                max: h.usage.max_usage,
                failcnt: h.usage.failcnt,
                pagesize: h.page_size.clone(),
            })
            .collect(),
        // containerd's cgroup v1 code leaves the limit zero when there is none
        pids: Some(v1::PidsStat {
            current: s.pids.current,
            limit: if s.pids.limit == UNLIMITED { 0 } else { s.pids.limit },
        }),
        cpu: Some(v1::CpuStat {
            usage: Some(v1::CpuUsage {
                total: s.cpu.total_ns,
                kernel: s.cpu.system_ns,
                user: s.cpu.user_ns,
                per_cpu: s.cpu.per_cpu_ns.clone(),
            }),
            throttling: Some(v1::Throttle {
                periods: s.cpu.periods,
                throttled_periods: s.cpu.throttled_periods,
                throttled_time: s.cpu.throttled_ns,
            }),
        }),
        memory: Some(v1::MemoryStat {
            cache: stat("cache"),
            rss: stat("rss"),
            rss_huge: stat("rss_huge"),
            mapped_file: stat("mapped_file"),
            dirty: stat("dirty"),
            writeback: stat("writeback"),
            pg_pg_in: stat("pgpgin"),
            pg_pg_out: stat("pgpgout"),
            pg_fault: stat("pgfault"),
            pg_maj_fault: stat("pgmajfault"),
            inactive_anon: stat("inactive_anon"),
            active_anon: stat("active_anon"),
            inactive_file: stat("inactive_file"),
            active_file: stat("active_file"),
            unevictable: stat("unevictable"),
            hierarchical_memory_limit: stat("hierarchical_memory_limit"),
            hierarchical_swap_limit: stat("hierarchical_memsw_limit"),
            total_cache: stat("total_cache"),
            total_rss: stat("total_rss"),
            total_rss_huge: stat("total_rss_huge"),
            total_mapped_file: stat("total_mapped_file"),
            total_dirty: stat("total_dirty"),
            total_writeback: stat("total_writeback"),
            total_pg_pg_in: stat("total_pgpgin"),
            total_pg_pg_out: stat("total_pgpgout"),
            total_pg_fault: stat("total_pgfault"),
            total_pg_maj_fault: stat("total_pgmajfault"),
            total_inactive_anon: stat("total_inactive_anon"),
            total_active_anon: stat("total_active_anon"),
            total_inactive_file: stat("total_inactive_file"),
            total_active_file: stat("total_active_file"),
            total_unevictable: stat("total_unevictable"),
            usage: Some(entry(s.memory.usage)),
            swap: s.memory.swap.map(entry),
            kernel: s.memory.kernel.map(entry),
            kernel_tcp: s.memory.kernel_tcp.map(entry),
        }),
        blkio: Some(v1::BlkIoStat {
            io_service_bytes_recursive: blk(&s.io.service_bytes),
            io_serviced_recursive: blk(&s.io.serviced),
            io_queued_recursive: blk(&s.io.queued),
            io_service_time_recursive: blk(&s.io.service_time),
            io_wait_time_recursive: blk(&s.io.wait_time),
            io_merged_recursive: blk(&s.io.merged),
            io_time_recursive: blk(&s.io.time),
            sectors_recursive: blk(&s.io.sectors),
        }),
        memory_oom_control: Some(v1::MemoryOomControl {
            oom_kill_disable: s.memory.oom_kill_disable,
            under_oom: s.memory.under_oom,
            oom_kill: s.memory.oom_kill,
        }),
        ..v1::Metrics::default()
    }
}

fn psi(pressure: Option<&Pressure>) -> Option<v2::PsiStats> {
    let stall = |s: &Stall| v2::PsiData { avg10: s.avg10, avg60: s.avg60, avg300: s.avg300, total: s.total };
    pressure.map(|p| v2::PsiStats { some: Some(stall(&p.some)), full: Some(stall(&p.full)) })
}

fn metrics_v2(s: &Stats) -> v2::Metrics {
    let stat = |key: &str| s.memory.stat.get(key).copied().unwrap_or(0);
    let event = |key: &str| s.memory.events.get(key).copied().unwrap_or(0);
    let swap = s.memory.swap.unwrap_or_default();
    v2::Metrics {
        pids: Some(v2::PidsStat { current: s.pids.current, limit: s.pids.limit }),
        cpu: Some(v2::CpuStat {
            usage_usec: s.cpu.total_ns / 1000,
            user_usec: s.cpu.user_ns / 1000,
            system_usec: s.cpu.system_ns / 1000,
            nr_periods: s.cpu.periods,
            nr_throttled: s.cpu.throttled_periods,
            throttled_usec: s.cpu.throttled_ns / 1000,
            psi: psi(s.cpu.pressure.as_ref()),
            nr_bursts: s.cpu.bursts,
            burst_usec: s.cpu.burst_ns / 1000,
        }),
        memory: Some(v2::MemoryStat {
            anon: stat("anon"),
            file: stat("file"),
            kernel_stack: stat("kernel_stack"),
            slab: stat("slab"),
            sock: stat("sock"),
            shmem: stat("shmem"),
            file_mapped: stat("file_mapped"),
            file_dirty: stat("file_dirty"),
            file_writeback: stat("file_writeback"),
            anon_thp: stat("anon_thp"),
            inactive_anon: stat("inactive_anon"),
            active_anon: stat("active_anon"),
            inactive_file: stat("inactive_file"),
            active_file: stat("active_file"),
            unevictable: stat("unevictable"),
            slab_reclaimable: stat("slab_reclaimable"),
            slab_unreclaimable: stat("slab_unreclaimable"),
            pgfault: stat("pgfault"),
            pgmajfault: stat("pgmajfault"),
            workingset_refault: stat("workingset_refault"),
            workingset_activate: stat("workingset_activate"),
            workingset_nodereclaim: stat("workingset_nodereclaim"),
            pgrefill: stat("pgrefill"),
            pgscan: stat("pgscan"),
            pgsteal: stat("pgsteal"),
            pgactivate: stat("pgactivate"),
            pgdeactivate: stat("pgdeactivate"),
            pglazyfree: stat("pglazyfree"),
            pglazyfreed: stat("pglazyfreed"),
            thp_fault_alloc: stat("thp_fault_alloc"),
            thp_collapse_alloc: stat("thp_collapse_alloc"),
            usage: s.memory.usage.usage,
            usage_limit: s.memory.usage.limit,
            swap_usage: swap.usage,
            swap_limit: swap.limit,
            max_usage: s.memory.usage.max_usage,
            swap_max_usage: swap.max_usage,
            psi: psi(s.memory.pressure.as_ref()),
        }),
        io: Some(v2::IoStat {
            usage: s
                .io
                .devices
                .iter()
                .map(|d| v2::IoEntry {
                    major: d.major,
                    minor: d.minor,
                    rbytes: d.rbytes,
                    wbytes: d.wbytes,
                    rios: d.rios,
                    wios: d.wios,
                })
                .collect(),
            psi: psi(s.io.pressure.as_ref()),
        }),
        hugetlb: s
            .hugetlb
            .iter()
            .map(|h| v2::HugeTlbStat {
                current: h.usage.usage,
                max: h.usage.limit,
                pagesize: h.page_size.clone(),
                failcnt: h.usage.failcnt,
            })
            .collect(),
        memory_events: Some(v2::MemoryEvents {
            low: event("low"),
            high: event("high"),
            max: event("max"),
            oom: event("oom"),
            oom_kill: event("oom_kill"),
            oom_group_kill: event("oom_group_kill"),
        }),
        ..v2::Metrics::default()
    }
}

#[cfg(test)]
mod tests;
