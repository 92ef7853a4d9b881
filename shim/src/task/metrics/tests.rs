use prost::Message;
use wharf_cgroups::stats::{Hugetlb, IoDevice};

use super::*;

/// Statistics in which every number tells where it belongs.
fn stats(v2: bool) -> Stats {
    let mut stats = Stats { v2, ..Stats::default() };
    stats.pids.current = 3;
    stats.pids.limit = 100;
    stats.cpu.total_ns = 5_000_999;
    stats.cpu.user_ns = 3_000_000;
    stats.cpu.system_ns = 2_000_000;
    stats.cpu.periods = 7;
    stats.cpu.throttled_periods = 2;
    stats.cpu.throttled_ns = 40_000;
    stats.cpu.bursts = 1;
    stats.cpu.burst_ns = 9_000;
    let stall = |total| Stall { avg10: 0.5, avg60: 0.25, avg300: 0.125, total };
    stats.cpu.pressure = Some(Pressure { some: stall(11), full: stall(12) });
    stats.memory.usage = Counter { usage: 4096, limit: UNLIMITED, max_usage: 8192, failcnt: 6 };
    stats.memory.swap = Some(Counter { usage: 10, limit: 20, max_usage: 15, failcnt: 0 });
    for (key, value) in [("anon", 1), ("file", 2), ("inactive_file", 3), ("pgmajfault", 4), ("slab", 5)] {
        stats.memory.stat.insert(key.into(), value);
    }
    for (key, value) in [("high", 6), ("max", 7), ("oom", 8), ("oom_kill", 9)] {
        stats.memory.events.insert(key.into(), value);
    }
    stats.io.devices.push(IoDevice {
        major: 8,
        minor: 1,
        rbytes: 100,
        wbytes: 200,
        rios: 3,
        wios: 4,
        ..IoDevice::default()
    });
    stats.hugetlb.push(Hugetlb {
        page_size: "2MB".into(),
        usage: Counter { usage: 2, limit: 4, max_usage: 3, failcnt: 1 },
    });
    stats
}

#[test]
fn statistics_of_version_2_are_containerds_metrics_of_version_2() {
    let any = to_any(&stats(true));
    assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
    let metrics = v2::Metrics::decode(any.value.as_slice()).unwrap();
    assert_eq!(metrics.pids, Some(v2::PidsStat { current: 3, limit: 100 }));
    let cpu = metrics.cpu.unwrap();
    assert_eq!((cpu.usage_usec, cpu.user_usec, cpu.system_usec), (5000, 3000, 2000), "microseconds");
    assert_eq!((cpu.nr_periods, cpu.nr_throttled, cpu.throttled_usec), (7, 2, 40));
    assert_eq!((cpu.nr_bursts, cpu.burst_usec), (1, 9));
    let pressure = cpu.psi.unwrap();
    let (some, full) = (pressure.some.unwrap(), pressure.full.unwrap());
    assert_eq!((some.total, full.total, some.avg10, some.avg300), (11, 12, 0.5, 0.125));
    let memory = metrics.memory.unwrap();
    assert_eq!((memory.usage, memory.usage_limit, memory.max_usage), (4096, u64::MAX, 8192));
    assert_eq!((memory.swap_usage, memory.swap_limit, memory.swap_max_usage), (10, 20, 15));
    assert_eq!((memory.anon, memory.file, memory.inactive_file), (1, 2, 3));
    assert_eq!((memory.pgmajfault, memory.slab, memory.unevictable), (4, 5, 0));
    assert_eq!(memory.psi, None, "none was measured");
    let events = metrics.memory_events.unwrap();
    assert_eq!((events.low, events.high, events.max, events.oom, events.oom_kill), (0, 6, 7, 8, 9));
    let io = metrics.io.unwrap().usage;
    let wanted = v2::IoEntry { major: 8, minor: 1, rbytes: 100, wbytes: 200, rios: 3, wios: 4 };
    assert_eq!(io, [wanted]);
    let pages = &metrics.hugetlb[0];
    assert_eq!((pages.current, pages.max, pages.failcnt, pages.pagesize.as_str()), (2, 4, 1, "2MB"));
}

#[test]
fn statistics_of_version_1_are_containerds_metrics_of_version_1() {
    let any = to_any(&stats(false));
    assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
    let metrics = v1::Metrics::decode(any.value.as_slice()).unwrap();
    assert_eq!(metrics.pids, Some(v1::PidsStat { current: 3, limit: 100 }));
    let cpu = metrics.cpu.unwrap();
    let usage = cpu.usage.unwrap();
    assert_eq!((usage.total, usage.user, usage.kernel), (5_000_999, 3_000_000, 2_000_000), "nanoseconds");
    let throttling = cpu.throttling.unwrap();
    assert_eq!((throttling.periods, throttling.throttled_periods, throttling.throttled_time), (7, 2, 40_000));
    let memory = metrics.memory.unwrap();
    let usage = memory.usage.unwrap();
    assert_eq!((usage.usage, usage.max, usage.failcnt), (4096, 8192, 6));
    assert_eq!((memory.inactive_file, memory.pg_maj_fault), (3, 4));
    assert_eq!(metrics.hugetlb[0].pagesize, "2MB");
}
