//! Cgroups as the container and the host see them, on version 1 and on version 2, whichever the host has.

use crate::bundle::{Bundle, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Whether the host has version 2 alone.
fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A control file of the container's cgroup: its name on version 1 and on version 2.
fn control(b: &Bundle, v1: &str, v2: &str) -> PathBuf {
    let name = if unified() { v2 } else { v1 };
    let found = b.cgroups().iter().map(|d| d.join(name)).find(|f| f.exists());
    found.unwrap_or_else(|| panic!("no {name} in {:?}", b.cgroups()))
}

#[track_caller]
fn holds(b: &Bundle, v1: (&str, &str), v2: (&str, &str)) {
    let file = control(b, v1.0, v2.0);
    let wanted = if unified() { v2.1 } else { v1.1 };
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), wanted, "{}", file.display());
}

fn stats(b: &Bundle) -> Value {
    serde_json::from_str(&b.call(&["events", "--stats", &b.id]).ok()).unwrap()
}

#[test]
fn root_every_limit_lands_in_its_file_and_is_updated() {
    let mut b = Bundle::new("sleep 1000");
    b.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "reservation": 32 << 20});
    b.config["linux"]["resources"]["cpu"] =
        json!({"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"});
    b.config["linux"]["resources"]["pids"] = json!({"limit": 33});
    b.run_detached();
    holds(&b, ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    holds(&b, ("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432"));
    holds(&b, ("cpu.shares", "512"), ("cpu.weight", "59"));
    holds(&b, ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
    holds(&b, ("cpuset.cpus", "0"), ("cpuset.cpus", "0"));
    holds(&b, ("cpuset.mems", "0"), ("cpuset.mems", "0"));
    holds(&b, ("pids.max", "33"), ("pids.max", "33"));

    b.call(&["update", "--memory", "96m", "--memory-reservation", "48m", "--pids-limit", "44", &b.id]).ok();
    b.call(&["update", "--cpu-share", "1024", "--cpu-quota", "20000", "--cpu-period", "50000", &b.id]).ok();
    holds(&b, ("memory.limit_in_bytes", "100663296"), ("memory.max", "100663296"));
    holds(&b, ("memory.soft_limit_in_bytes", "50331648"), ("memory.low", "50331648"));
    holds(&b, ("cpu.shares", "1024"), ("cpu.weight", "100"));
    holds(&b, ("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000"));
    holds(&b, ("pids.max", "44"), ("pids.max", "44"));
    holds(&b, ("cpuset.cpus", "0"), ("cpuset.cpus", "0"));

    let event = stats(&b);
    let data = &event["data"];
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(b.id)));
    assert_eq!(data["memory"]["usage"]["limit"], 96 << 20);
    assert_eq!(data["pids"]["limit"], 44);
    for number in
        [&data["memory"]["usage"]["usage"], &data["cpu"]["usage"]["total"], &data["pids"]["current"]]
    {
        assert!(number.as_u64().is_some_and(|n| n > 0), "{data}");
    }
}

#[test]
fn root_a_container_of_512_kib_of_memory_starts() {
    let mut b = Bundle::new("exec sleep 1000");
    b.config["linux"]["resources"]["memory"] = json!({"limit": 512 << 10});
    b.write_config();
    for _ in 0..5 {
        b.call(&["create", &b.id]).ok();
        holds(&b, ("memory.limit_in_bytes", "524288"), ("memory.max", "524288"));
        b.call(&["start", &b.id]).ok();
        // its own program runs, rather than init, and goes on
        let pid = b.state()["pid"].to_string();
        wait_until("the program", || {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "sleep")
        });
        assert_eq!(b.state()["status"], "running");
        b.call(&["delete", "--force", &b.id]).ok();
    }
    b.assert_nothing_left();
}

#[test]
fn root_a_device_is_throttled() {
    // the first disk there is, a loop device without a file or a RAM disk too
    let disk = fs::read_dir("/sys/block").unwrap().flatten().next().expect("a block device");
    let number = fs::read_to_string(disk.path().join("dev")).unwrap().trim().to_owned();
    let (major, minor) = number.split_once(':').unwrap();
    let (major, minor) = (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap());
    let mut b = Bundle::new("sleep 1000");
    let limit = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    b.config["linux"]["resources"]["blockIO"] =
        json!({"throttleReadBpsDevice": limit(1 << 20), "throttleWriteIOPSDevice": limit(50)});
    b.run_detached();
    if unified() {
        let all = format!("{number} rbps=1048576 wbps=max riops=max wiops=50");
        holds(&b, ("", ""), ("io.max", &all));
    } else {
        holds(&b, ("blkio.throttle.read_bps_device", &format!("{number} 1048576")), ("", ""));
        holds(&b, ("blkio.throttle.write_iops_device", &format!("{number} 50")), ("", ""));
    }
}

#[test]
fn root_devices_are_refused_until_they_are_allowed() {
    let mut b = Bundle::new("busybox mknod /tmp/kmsg c 1 11 && echo > /tmp/made; sleep 1000");
    let caps = json!(["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"]);
    b.config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
    b.run_detached();
    wait_until("the node", || b.rootfs().join("tmp/made").exists());
    let open = "(: </tmp/kmsg) 2>/dev/null && echo open || echo refused; : </dev/zero";
    assert_eq!(b.exec(&["sh", "-c", open]).ok(), "refused\n");
    let update = |allow: bool| {
        let rule = json!({"allow": allow, "type": "c", "major": 1, "minor": 11, "access": "r"});
        let file = b.path().join("resources.json");
        fs::write(&file, json!({ "devices": [rule] }).to_string()).unwrap();
        b.call(&["update", "--resources", &file.to_string_lossy(), &b.id]).ok();
    };
    update(true);
    assert_eq!(b.exec(&["sh", "-c", open]).ok(), "open\n");
    update(false);
    assert_eq!(b.exec(&["sh", "-c", open]).ok(), "refused\n");
}

#[test]
fn root_pause_is_the_freezers_and_delete_ends_what_is_frozen() {
    let b = Bundle::new("sleep 1000 & sleep 1000");
    b.run_detached();
    b.call(&["pause", &b.id]).ok();
    holds(&b, ("freezer.state", "FROZEN"), ("cgroup.freeze", "1"));
    b.call(&["resume", &b.id]).ok();
    holds(&b, ("freezer.state", "THAWED"), ("cgroup.freeze", "0"));
    b.call(&["pause", &b.id]).ok();
    b.call(&["delete", "--force", &b.id]).ok();
    b.assert_nothing_left();
}

#[test]
fn root_execs_share_the_containers_limits() {
    let mut b = Bundle::new("sleep 1000");
    b.config["linux"]["resources"]["pids"] = json!({"limit": 20});
    b.run_detached();
    let mut exec = b.runw().args(["exec", &b.id, "sleep", "1000"]).stdout(Stdio::null()).spawn().unwrap();
    let procs = control(&b, "pids.max", "pids.max").with_file_name("cgroup.procs");
    wait_until("two processes", || fs::read_to_string(&procs).unwrap().lines().count() == 2);
    assert_eq!(stats(&b)["data"]["pids"]["current"], 2);
    let many = "i=0; while [ $i -lt 30 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done; echo all";
    let refused = b.exec(&["sh", "-c", many]);
    assert!(!refused.out.contains("all"), "thirty processes within a limit of twenty");
    b.call(&["kill", "--all", &b.id, "KILL"]).ok();
    exec.wait().unwrap();
    b.wait_for_status("stopped");
}

#[test]
fn root_exec_follows_an_init_that_shares_out_its_cgroup() {
    // what systemd and daemons of containers do inside a container
    let mut b = Bundle::new(
        "cd /sys/fs/cgroup; [ ! -e cgroup.controllers ] || \
         { mkdir init && echo $$ > init/cgroup.procs && echo +pids > cgroup.subtree_control; } && \
         echo > /tmp/done; sleep 1000",
    );
    let cgroup = b.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    cgroup["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
    b.run_detached();
    wait_until("the move", || b.rootfs().join("tmp/done").exists());
    let out = b.exec(&["cat", "/proc/self/cgroup"]).ok();
    if unified() {
        assert_eq!(out, "0::/init\n");
    }
    b.call(&["pause", &b.id]).ok();
    b.call(&["resume", &b.id]).ok();
    b.call(&["delete", "--force", &b.id]).ok();
    b.assert_nothing_left();
}
