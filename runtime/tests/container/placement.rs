//! execCPUAffinity, personality, memoryPolicy, netDevices, intelRdt: what 1.2 and 1.3 of the specification added.

use crate::bundle::{Bundle, Ended, RUNW};
use serde_json::json;
use std::process::Command;

#[test]
fn root_an_exec_keeps_to_its_cpus_and_without_any_gets_all_of_the_cgroup() {
    let mut b = Bundle::new("sleep 1000");
    b.config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
    b.run_detached();
    let allowed = ["grep", "Cpus_allowed_list", "/proc/self/status"];
    assert_eq!(b.exec(&allowed).ok(), "Cpus_allowed_list:\t1\n");
    // only the initial one: it stays
    b.config["process"].as_object_mut().unwrap().remove("terminal");
    let file = b.path().join("process.json");
    let process =
        json!({"cwd": "/", "args": allowed, "env": ["PATH=/bin"], "execCPUAffinity": {"initial": "0"}});
    std::fs::write(&file, process.to_string()).unwrap();
    let out = b.call(&["exec", "--process", file.to_str().unwrap(), &b.id]).ok();
    assert_eq!(out, "Cpus_allowed_list:\t0\n");
    // more than the 1024 of the C library's type; what the machine lacks is cut off
    let many = json!({"cwd": "/", "args": allowed, "env": ["PATH=/bin"],
        "execCPUAffinity": {"initial": "0", "final": "1,1024-8191"}});
    std::fs::write(&file, many.to_string()).unwrap();
    let out = b.call(&["exec", "--process", file.to_str().unwrap(), &b.id]).ok();
    assert_eq!(out, "Cpus_allowed_list:\t1\n");
    let bad = json!({"cwd": "/", "args": allowed, "execCPUAffinity": {"final": "5-2"}});
    std::fs::write(&file, bad.to_string()).unwrap();
    b.call(&["exec", "--process", file.to_str().unwrap(), &b.id]).fails_with("process.execCPUAffinity.final");
}

#[test]
fn root_a_container_is_not_tied_to_the_cpus_of_the_runtimes_caller() {
    let b = Bundle::new("grep Cpus_allowed_list /proc/self/status");
    b.write_config();
    let plain: Ended =
        Command::new("grep").args(["Cpus_allowed_list", "/proc/self/status"]).output().unwrap().into();
    let tied: Ended = Command::new("taskset")
        .args(["-c", "0", RUNW, "--root"])
        .arg(b.state_root())
        .args(["run", "--bundle"])
        .arg(b.path())
        .arg(&b.id)
        .output()
        .unwrap()
        .into();
    assert_eq!(tied.ok(), plain.ok());
}

#[test]
fn root_personality_and_memory_policy_hold_for_the_container_and_its_execs() {
    let look =
        "cat /proc/self/personality; head -n 1 /proc/self/numa_maps | tr ' ' '\\n' | head -n 2 | grep :";
    let mut b = Bundle::new("sleep 1000");
    b.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    b.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
    // the filter need not allow what only the runtime calls
    b.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["personality", "set_mempolicy"], "action": "SCMP_ACT_ERRNO"}]});
    b.run_detached();
    assert_eq!(b.exec(&["sh", "-c", look]).ok(), "00000008\ninterleave:0\n");
    b.config["process"]["args"] = json!(["sh", "-c", look]);
    let mut again = Bundle::new(look);
    again.config["linux"] = b.config["linux"].clone();
    again.config["linux"]["cgroupsPath"] = format!("/runw-test-{}", again.id).into();
    assert_eq!(again.run().ok(), "00000008\ninterleave:0\n");
}

/// A network namespace of the test's own, in which runw is run: the host's interfaces are left alone.
fn in_own_network(script: &str, b: &Bundle) -> Ended {
    b.write_config();
    let runw =
        format!("{RUNW} --root {} run --bundle {} {}", b.state_root().display(), b.path().display(), b.id);
    let script = script.replace("RUNW", &runw);
    Command::new("unshare").args(["--net", "sh", "-c", &script]).output().unwrap().into()
}

#[test]
fn root_a_network_device_moves_with_its_addresses_and_a_new_name() {
    let mut b = Bundle::new("ip -o addr show dev ctr0; ip -o link show dev ctr0");
    b.config["linux"]["netDevices"] = json!({"hostif0": {"name": "ctr0"}});
    let out = in_own_network(
        "ip link add hostif0 type veth peer name peer0 && ip addr add 10.7.0.1/24 brd 10.7.0.255 dev hostif0 && \
         ip -6 addr add 2001:db8::1/64 dev hostif0 nodad && ip link set hostif0 up && ip link set peer0 up && RUNW; \
         code=$?; ! ip link show hostif0 2>/dev/null && exit $code",
        &b,
    )
    .ok();
    for part in ["inet 10.7.0.1/24 brd 10.7.0.255", "inet6 2001:db8::1/64", "ctr0", "UP"] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
}

#[test]
fn root_a_network_device_that_is_missing_leaves_no_container() {
    let mut b = Bundle::new("true");
    b.config["linux"]["netDevices"] = json!({"nosuch0": {}});
    in_own_network("RUNW", &b).fails_with("linux.netDevices.nosuch0: looking for the interface");
    b.assert_nothing_left();
}

#[test]
fn root_intel_rdt_is_an_error_where_resctrl_is_not_mounted() {
    if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        return; // the other case is covered by the unit tests
    }
    let mut b = Bundle::new("true");
    b.config["linux"]["intelRdt"] = json!({"schemata": ["L3:0=f"]});
    b.run().fails_with("linux.intelRdt: this host has no resource control filesystem");
    b.assert_nothing_left();
}
