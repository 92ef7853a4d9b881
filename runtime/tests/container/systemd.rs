//! Containers whose cgroups systemd makes. They need it as the first process: `make test-vm` runs them.

use crate::bundle::{Bundle, wait_until};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const ROOT: &str = "/sys/fs/cgroup";

fn bundle(script: &str) -> (Bundle, String) {
    let mut b = Bundle::new(script);
    b.config["linux"]["cgroupsPath"] = format!("runwtest-a.slice:wt:{}", b.id).into();
    let unit = format!("wt-{}.scope", b.id);
    (b, unit)
}

fn detached(b: &Bundle) {
    b.write_config();
    b.call(&["--systemd-cgroup", "run", "--detach", &b.id]).ok();
}

#[track_caller]
fn systemctl(args: &[&str]) -> String {
    let out = Command::new("systemctl").args(args).output().expect("systemctl");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A property of a unit, as `systemctl show` prints it.
fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, unit])
}

fn directory(unit: &str) -> PathBuf {
    PathBuf::from(ROOT).join("runwtest.slice/runwtest-a.slice").join(unit)
}

#[track_caller]
fn holds(unit: &str, file: &str, value: &str) {
    assert_eq!(fs::read_to_string(directory(unit).join(file)).unwrap().trim(), value, "{file}");
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_limits_are_the_units_and_outlive_a_reload() {
    let (mut b, unit) = bundle("sleep 1000");
    b.config["linux"]["resources"]["memory"] =
        json!({"limit": 64 << 20, "swap": 64 << 20, "reservation": 8 << 20});
    b.config["linux"]["resources"]["cpu"] =
        json!({"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"});
    b.config["linux"]["resources"]["pids"] = json!({"limit": 33});
    detached(&b);
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert_eq!(show(&unit, "Slice"), "runwtest-a.slice");
    assert_eq!(show(&unit, "Delegate"), "yes");
    assert_eq!(show(&unit, "ControlGroup"), format!("/runwtest.slice/runwtest-a.slice/{unit}"));
    for (property, value) in [
        ("MemoryMax", "67108864"),
        ("MemoryLow", "8388608"),
        ("MemorySwapMax", "0"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("TasksMax", "33"),
        ("AllowedCPUs", "0"),
        ("DevicePolicy", "strict"),
    ] {
        assert_eq!(show(&unit, property), value, "{property}");
    }
    let check = |memory: &str, pids: &str| {
        holds(&unit, "memory.max", memory);
        holds(&unit, "pids.max", pids);
        holds(&unit, "cpu.weight", "59");
        holds(&unit, "cpuset.cpus", "0");
    };
    check("67108864", "33");
    b.call(&["update", "--memory", "96m", "--memory-swap", "96m", "--pids-limit", "44", &b.id]).ok();
    check("100663296", "44");
    assert_eq!((show(&unit, "MemoryMax"), show(&unit, "TasksMax")), ("100663296".into(), "44".into()));
    systemctl(&["daemon-reload"]);
    check("100663296", "44");
    b.exec(&["sh", "-c", "echo x >/dev/null && head -c 1 /dev/zero >/dev/null"]).ok();

    let only: Vec<String> = fs::read_to_string(directory(&unit).join("cgroup.procs"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(only, [b.state()["pid"].to_string()], "init alone is in the scope");
    b.call(&["delete", "--force", &b.id]).ok();
    assert!(!directory(&unit).exists());
    assert_eq!(show(&unit, "LoadState"), "not-found");
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_exec_pause_resume_and_kill_work_on_a_scope() {
    let (b, unit) = bundle("sleep 1000");
    detached(&b);
    let own = b.exec(&["cat", "/proc/self/cgroup"]).ok();
    assert!(own.trim() == "0::/" || own.contains(&unit), "{own}");
    b.call(&["pause", &b.id]).ok();
    holds(&unit, "cgroup.freeze", "1");
    assert_eq!(b.state()["status"], "paused");
    b.call(&["resume", &b.id]).ok();
    b.call(&["kill", &b.id, "KILL"]).ok();
    b.wait_for_status("stopped");
    wait_until("the end of the scope", || show(&unit, "ActiveState") != "active");
    b.call(&["delete", &b.id]).ok();
    assert_eq!(show(&unit, "LoadState"), "not-found");
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_without_a_path_it_is_a_scope_of_the_system_slice() {
    let mut b = Bundle::new("sleep 1000");
    b.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    detached(&b);
    let unit = format!("runc-{}.scope", b.id);
    assert_eq!(show(&unit, "ControlGroup"), format!("/system.slice/{unit}"));
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_annotations_are_properties() {
    let (mut b, unit) = bundle("sleep 1000");
    b.config["annotations"] = json!({
        "org.systemd.property.TimeoutStopSec": "77",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.SendSIGHUP": "true",
    });
    detached(&b);
    assert_eq!(show(&unit, "TimeoutStopUSec"), "1min 17s");
    assert_eq!(show(&unit, "CollectMode"), "inactive-or-failed");
    assert_eq!(show(&unit, "SendSIGHUP"), "yes");
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_refusals_leave_nothing() {
    for (value, text) in [("nonsense", "annotations"), ("'x'", "TimeoutStopUSec"), ("true", "NoSuchProperty")]
    {
        let (mut b, unit) = bundle("sleep 1000");
        let name = if value == "true" { "NoSuchProperty" } else { "TimeoutStopUSec" };
        b.config["annotations"] = json!({ format!("org.systemd.property.{name}"): value });
        b.write_config();
        b.call(&["--systemd-cgroup", "run", "--detach", &b.id]).fails_with(text);
        b.assert_nothing_left();
        assert!(!directory(&unit).exists());
        assert_eq!(show(&unit, "LoadState"), "not-found");
    }
    let mut b = Bundle::new("true");
    b.config["linux"]["cgroupsPath"] = "/a/b".into();
    b.write_config();
    b.call(&["--systemd-cgroup", "run", &b.id]).fails_with("slice:prefix:name");
    b.config["process"]["args"] = json!(["/nothing/of/this/name"]);
    b.config["linux"]["cgroupsPath"] = format!("runwtest-a.slice:wt:{}", b.id).into();
    b.write_config();
    b.call(&["--systemd-cgroup", "run", &b.id]).fails_with("no such file");
    b.assert_nothing_left();
    let unit = format!("wt-{}.scope", b.id);
    wait_until("the end of the scope", || show(&unit, "LoadState") == "not-found");
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_a_container_of_one_task_and_little_memory_starts() {
    let (mut b, unit) = bundle("exec sleep 1000");
    b.config["linux"]["resources"]["pids"] = json!({"limit": 1});
    b.config["linux"]["resources"]["memory"] = json!({"limit": 512 << 10});
    detached(&b);
    holds(&unit, "pids.max", "1");
    holds(&unit, "memory.max", "524288");
    assert_eq!(show(&unit, "TasksMax"), "1");
    b.wait_for_status("running");
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_a_scope_that_failed_is_forgotten_on_delete_and_its_name_is_free() {
    let (mut b, unit) = bundle("dd if=/dev/zero of=/dev/null bs=64M count=1");
    b.config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    for _ in 0..2 {
        detached(&b);
        b.wait_for_status("stopped");
        b.call(&["delete", &b.id]).ok();
        assert_eq!(show(&unit, "LoadState"), "not-found");
    }
}
