use super::*;
use crate::plan::Paths;
use std::fs;

fn cgroup(files: &[(&str, &str, &str)]) -> (tempfile::TempDir, Cgroup) {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Paths::default();
    for (controller, file, text) in files {
        let path = dir.path().join(if controller.is_empty() { "unified" } else { controller });
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(file), text).unwrap();
        paths.0.insert((*controller).to_owned(), path);
    }
    let cgroup = Cgroup::from_paths(&paths).unwrap();
    (dir, cgroup)
}

#[test]
fn version_1_files_are_read() {
    let (_dir, cgroup) = cgroup(&[
        ("cpuacct", "cpuacct.usage", "300\n"),
        ("cpuacct", "cpuacct.usage_all", "cpu user system\n0 100 50\n1 120 30\n"),
        ("cpuacct", "cpuacct.usage_user", "220\n"),
        ("cpuacct", "cpuacct.stat", "user 5\nsystem 7\n"),
        ("cpu", "cpu.stat", "nr_periods 4\nnr_throttled 2\nthrottled_time 99\n"),
        ("memory", "memory.usage_in_bytes", "4096\n"),
        ("memory", "memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory", "memory.max_usage_in_bytes", "8192\n"),
        ("memory", "memory.failcnt", "3\n"),
        ("memory", "memory.stat", "cache 11\nrss 22\ntotal_cache 33\n"),
        ("memory", "memory.oom_control", "oom_kill_disable 1\nunder_oom 0\noom_kill 5\n"),
        ("pids", "pids.current", "2\n"),
        ("pids", "pids.max", "max\n"),
        ("blkio", "blkio.throttle.io_service_bytes_recursive", "8:0 Read 5\n8:0 Total 5\nTotal 5\n"),
        ("blkio", "blkio.bfq.io_service_bytes_recursive", "Total 0\n"),
    ]);
    let s = cgroup.stats().unwrap();
    assert_eq!((s.cpu.total_ns, s.cpu.user_ns, s.cpu.system_ns), (300, 220, 70_000_000));
    assert_eq!(s.cpu.per_cpu_ns, [150, 150]);
    assert_eq!((s.cpu.periods, s.cpu.throttled_periods, s.cpu.throttled_ns), (4, 2, 99));
    assert_eq!(
        s.memory.usage,
        Counter { usage: 4096, limit: 9_223_372_036_854_771_712, max_usage: 8192, failcnt: 3 }
    );
    assert_eq!((s.memory.swap, s.memory.stat["total_cache"]), (None, 33));
    assert_eq!((s.memory.oom_kill_disable, s.memory.oom_kill), (1, 5));
    assert_eq!(s.pids, Pids { current: 2, limit: UNLIMITED });
    assert_eq!(s.io.service_bytes.len(), 2, "an empty scheduler file gives way to the throttle's");
    assert_eq!(s.io.service_bytes[0], IoEntry { major: 8, minor: 0, op: "Read".into(), value: 5 });
    assert_eq!(cgroup.oom_kills().unwrap(), 5);
}

#[test]
fn version_2_files_are_read() {
    let (_dir, cgroup) = cgroup(&[
        ("", "cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 1\nthrottled_usec 2\n"),
        (
            "",
            "cpu.pressure",
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
        ),
        ("", "memory.current", "4096\n"),
        ("", "memory.max", "max\n"),
        ("", "memory.peak", "9000\n"),
        ("", "memory.swap.current", "10\n"),
        ("", "memory.swap.max", "100\n"),
        ("", "memory.stat", "anon 1\nfile 2\n"),
        ("", "memory.events", "low 0\nmax 6\noom 2\noom_kill 1\n"),
        ("", "pids.current", "1\n"),
        ("", "pids.max", "64\n"),
        ("", "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 new=7\nbroken\n"),
    ]);
    let s = cgroup.stats().unwrap();
    assert!(s.v2);
    assert_eq!((s.cpu.total_ns, s.cpu.user_ns, s.cpu.throttled_ns), (30_000, 20_000, 2000));
    let pressure = s.cpu.pressure.unwrap();
    assert_eq!((pressure.some.avg10, pressure.some.total, pressure.full.total), (1.5, 77, 5));
    assert_eq!(s.memory.usage, Counter { usage: 4096, limit: UNLIMITED, max_usage: 9000, failcnt: 6 });
    assert_eq!((s.memory.oom_kill, s.memory.events["oom"]), (1, 2));
    assert_eq!(s.pids, Pids { current: 1, limit: 64 });
    assert_eq!((s.io.devices[0].wbytes, s.io.service_bytes[1].value, s.io.serviced[0].value), (2, 2, 3));
    assert_eq!(cgroup.oom_kills().unwrap(), 1);
}

#[test]
fn a_missing_controller_leaves_its_part_empty() {
    let (_dir, cgroup) = cgroup(&[("pids", "pids.current", "1\n")]);
    let s = cgroup.stats().unwrap();
    assert_eq!((s.pids.current, s.pids.limit, s.memory.usage.usage), (1, UNLIMITED, 0));
}

#[test]
fn a_number_that_is_none_is_an_error_with_the_file() {
    let (_dir, cgroup) = cgroup(&[("pids", "pids.current", "many\n")]);
    let error = cgroup.stats().unwrap_err().to_string();
    assert!(error.contains("pids.current") && error.contains("many"), "{error}");
}

#[test]
fn runcs_shape_has_its_names_and_leaves_out_zeros() {
    let (_dir, cgroup) = cgroup(&[
        ("", "memory.current", "100\n"),
        ("", "memory.max", "200\n"),
        ("", "memory.swap.current", "10\n"),
        ("", "memory.swap.max", "20\n"),
        ("", "memory.stat", "file 2\n"),
        ("", "pids.max", "max\n"),
        ("", "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n"),
    ]);
    let stats = cgroup.stats().unwrap();
    let json = serde_json::to_value(stats.to_runc(cgroup.cpuset().unwrap())).unwrap();
    assert_eq!(json["memory"]["usage"], serde_json::json!({"limit": 200, "usage": 100, "failcnt": 0}));
    assert_eq!(json["memory"]["swap"]["usage"], 110);
    assert_eq!(json["memory"]["swap"]["limit"], 220);
    assert_eq!(json["memory"]["cache"], 2);
    assert_eq!(json["pids"], serde_json::json!({}));
    assert_eq!(json["cpu"], serde_json::json!({}), "all of it is zero");
    assert_eq!(json["memory"].get("kernel"), None);
    assert_eq!((json["cpuset"].get("cpus"), &json["cpuset"]["sched_load_balance"]), (None, &0.into()));
    assert_eq!(
        json["blkio"]["ioServiceBytesRecursive"][1],
        serde_json::json!({"major": 8, "op": "Write", "value": 2})
    );
}

#[test]
fn page_sizes_are_spelled_as_the_files_are() {
    assert_eq!([64, 2048, 1 << 20].map(v1::page_size_name), ["64KB", "2MB", "1GB"]);
}

#[test]
fn the_order_and_the_numbers_of_a_cpuset_are_runcs() {
    let (_dir, cgroup) = cgroup(&[
        ("cpuset", "cpuset.cpus", "0-2,7\n"),
        ("cpuset", "cpuset.mems", "0\n"),
        ("cpuset", "cpuset.sched_load_balance", "1\n"),
        ("cpuset", "cpuset.sched_relax_domain_level", "-1\n"),
        ("cpuacct", "cpuacct.usage", "300\n"),
        ("cpu", "cpu.stat", "nr_periods 4\n"),
        ("memory", "memory.usage_in_bytes", "4096\n"),
        ("memory", "memory.limit_in_bytes", "8192\n"),
    ]);
    let stats = cgroup.stats().unwrap();
    let json = serde_json::to_string(&stats.to_runc(cgroup.cpuset().unwrap())).unwrap();
    let expected = concat!(
        r#"{"cpu":{"usage":{"total":300,"kernel":0,"user":0},"throttling":{"periods":4}},"#,
        r#""cpuset":{"cpus":[0,1,2,7],"cpu_exclusive":0,"mems":[0],"mem_hardwall":0,"mem_exclusive":0,"#,
        r#""memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"#,
        r#""sched_load_balance":1,"sched_relax_domain_level":-1},"#,
        r#""memory":{"usage":{"limit":8192,"usage":4096,"failcnt":0}},"pids":{},"blkio":{},"hugetlb":{}}"#
    );
    assert_eq!(json, expected);
}
