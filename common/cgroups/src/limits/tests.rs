use oci_spec::runtime::*;
use proptest::prelude::*;

use super::*;

fn lines(mode: Mode, r: &LinuxResources) -> Vec<String> {
    plan(mode, r).unwrap().into_iter().flatten().map(|w| format!("{}={}", w.file, w.value)).collect()
}

fn memory(limit: i64, swap: i64) -> LinuxResources {
    let m = LinuxMemoryBuilder::default().limit(limit).swap(swap).build().unwrap();
    LinuxResourcesBuilder::default().memory(m).build().unwrap()
}

#[test]
fn shares_become_weights_as_runc_converts_them() {
    // by the quadratic formula, worked out apart
    let table =
        [(0, 0), (1, 1), (2, 1), (3, 2), (100, 17), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)];
    for (shares, weight) in table {
        assert_eq!(cpu_shares_to_weight(shares), weight, "{shares}");
    }
    assert_eq!(cpu_shares_to_weight(u64::MAX), 10_000);
    assert_eq!([0, 10, 500, 1000].map(blkio_weight_to_io_weight), [0, 1, 4950, 10_000]);
}

#[test]
fn swap_of_version_2_excludes_memory() {
    assert_eq!(memory_swap_to_v2(100, 300).unwrap(), Some(200));
    assert_eq!(memory_swap_to_v2(100, 100).unwrap(), Some(0));
    assert_eq!(memory_swap_to_v2(100, 0).unwrap(), None);
    assert_eq!(memory_swap_to_v2(-1, 0).unwrap(), Some(-1));
    assert_eq!(memory_swap_to_v2(100, -1).unwrap(), Some(-1));
    assert!(memory_swap_to_v2(100, 50).is_err());
    assert!(memory_swap_to_v2(0, 50).is_err());
}

#[test]
fn memory_and_swap_are_one_group_since_their_order_depends_on_what_is_in_force() {
    let groups = plan(Mode::Hybrid, &memory(1 << 20, 2 << 20)).unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!(
        lines(Mode::Hybrid, &memory(1 << 20, 2 << 20)),
        ["memory.limit_in_bytes=1048576", "memory.memsw.limit_in_bytes=2097152"]
    );
    assert_eq!(
        lines(Mode::Unified, &memory(1 << 20, 2 << 20)),
        ["memory.swap.max=1048576", "memory.max=1048576"]
    );
    assert_eq!(lines(Mode::Unified, &memory(-1, 0)), ["memory.swap.max=max", "memory.max=max"]);
    let error = plan(Mode::Legacy, &memory(100, 50)).unwrap_err();
    assert!(error.to_string().starts_with("linux.resources.memory.swap: "), "{error}");
}

#[test]
fn cpu_limits_have_each_versions_form() {
    let cpu = LinuxCpuBuilder::default()
        .shares(1024u64)
        .quota(50_000)
        .period(100_000u64)
        .cpus("0-1")
        .build()
        .unwrap();
    let r = LinuxResourcesBuilder::default().cpu(cpu).build().unwrap();
    assert_eq!(
        lines(Mode::Hybrid, &r),
        ["cpu.shares=1024", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpuset.cpus=0-1"]
    );
    assert_eq!(lines(Mode::Unified, &r), ["cpu.weight=100", "cpu.max=50000 100000", "cpuset.cpus=0-1"]);
}

#[test]
fn a_quota_of_minus_one_takes_the_limit_off() {
    let cpu = LinuxCpuBuilder::default().quota(-1).build().unwrap();
    let r = LinuxResourcesBuilder::default().cpu(cpu).build().unwrap();
    assert_eq!(lines(Mode::Hybrid, &r), ["cpu.cfs_quota_us=-1"]);
    assert_eq!(lines(Mode::Unified, &r), ["cpu.max=max 100000"]);
}

#[test]
fn shares_the_kernel_would_clamp_are_refused() {
    for (shares, word) in [(1u64, "minimum"), (262_145, "maximum")] {
        let cpu = LinuxCpuBuilder::default().shares(shares).build().unwrap();
        let r = LinuxResourcesBuilder::default().cpu(cpu).build().unwrap();
        assert!(plan(Mode::Hybrid, &r).unwrap_err().to_string().contains(word));
    }
}

#[test]
fn zero_and_absent_mean_no_change() {
    let r = LinuxResourcesBuilder::default()
        .memory(LinuxMemoryBuilder::default().limit(0).build().unwrap())
        .cpu(LinuxCpuBuilder::default().shares(0u64).quota(0).period(0u64).cpus("").build().unwrap())
        .block_io(LinuxBlockIoBuilder::default().weight(0u16).build().unwrap())
        .build()
        .unwrap();
    for mode in [Mode::Legacy, Mode::Hybrid, Mode::Unified] {
        assert_eq!(lines(mode, &r), Vec::<String>::new());
    }
}

#[test]
fn block_io_has_each_versions_form() {
    let device = LinuxThrottleDeviceBuilder::default().major(8).minor(0).rate(1000u64).build().unwrap();
    let io = LinuxBlockIoBuilder::default()
        .weight(500u16)
        .throttle_read_bps_device(vec![device])
        .throttle_write_iops_device(vec![device])
        .build()
        .unwrap();
    let r = LinuxResourcesBuilder::default().block_io(io).build().unwrap();
    assert_eq!(
        lines(Mode::Hybrid, &r),
        [
            "blkio.weight=500",
            "blkio.throttle.read_bps_device=8:0 1000",
            "blkio.throttle.write_iops_device=8:0 1000"
        ]
    );
    assert_eq!(
        lines(Mode::Unified, &r),
        ["io.bfq.weight=500", "io.max=8:0 rbps=1000", "io.max=8:0 wiops=1000"]
    );
}

#[test]
fn unified_keys_name_files_of_the_cgroup_only() {
    let with = |key: &str| {
        let map = std::collections::HashMap::from([(key.to_owned(), "1".to_owned())]);
        LinuxResourcesBuilder::default().unified(map).build().unwrap()
    };
    assert_eq!(lines(Mode::Unified, &with("memory.high")), ["memory.high=1"]);
    for bad in ["../memory.high", "cgroup/x.y", "", "nodot", "a b.c"] {
        assert!(plan(Mode::Unified, &with(bad)).is_err(), "{bad}");
    }
    assert!(plan(Mode::Hybrid, &with("memory.high")).unwrap_err().to_string().contains("cgroup v1"));
}

#[test]
fn page_sizes_cannot_leave_the_directory() {
    let page = LinuxHugepageLimitBuilder::default().page_size("../../x").limit(1).build().unwrap();
    let r = LinuxResourcesBuilder::default().hugepage_limits(vec![page]).build().unwrap();
    assert!(plan(Mode::Hybrid, &r).is_err());
}

proptest! {
    #[test]
    fn weights_are_always_in_the_kernels_range(shares: u64, weight: u16) {
        let w = cpu_shares_to_weight(shares);
        prop_assert!(shares == 0 || (1..=10_000).contains(&w));
        let w = blkio_weight_to_io_weight(weight);
        prop_assert!(weight == 0 || (1..=10_000).contains(&w));
    }

    #[test]
    fn planning_memory_never_panics(limit: i64, swap: i64) {
        for mode in [Mode::Legacy, Mode::Unified] {
            let _ = plan(mode, &memory(limit, swap));
        }
    }
}

#[test]
fn a_limit_of_no_processes_is_one() {
    for (limit, text) in [(0, "1"), (-1, "max"), (12, "12")] {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        let r = LinuxResourcesBuilder::default().pids(pids).build().unwrap();
        for mode in [Mode::Hybrid, Mode::Unified] {
            assert_eq!(lines(mode, &r), [format!("pids.max={text}")]);
        }
    }
}

#[test]
fn a_limit_below_the_usage_is_refused_where_it_is_to_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let put = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
    put("memory.current", "5000\n");
    for file in ["memory.max", "memory.swap.max"] {
        put(file, "");
    }
    let paths = crate::plan::Paths([(String::new(), dir.path().to_owned())].into());
    let cgroup = crate::cgroup::Cgroup::from_paths(&paths).unwrap();
    let apply = |limit: i64, swap: i64, check: bool| {
        let mut r = memory(limit, swap);
        let mut m = *r.memory().as_ref().unwrap();
        m.set_check_before_update(Some(check));
        r.set_memory(Some(m));
        cgroup.apply(&r).map_err(|e| e.to_string())
    };
    let refused = "linux.resources.memory.limit: rejecting memory limit 5000 <= usage 5000";
    assert_eq!(apply(5000, 6000, true).unwrap_err(), refused);
    let refused = "linux.resources.memory.swap: rejecting memory+swap limit 4000 <= usage 5000";
    assert_eq!(apply(3000, 4000, true).unwrap_err(), refused);
    assert_eq!(std::fs::read(dir.path().join("memory.max")).unwrap(), b"", "written before it was checked");
    apply(5000, 6000, false).unwrap();
    apply(5001, 6000, true).unwrap();
}
