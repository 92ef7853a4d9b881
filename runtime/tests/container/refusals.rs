//! Bad configurations: each is refused with the JSON path of its field, and nothing has been made by then.

use crate::bundle::Bundle;
use serde_json::{Value, json};

/// Where (JSON pointer; the last name is set), what to, and what the error has to name.
fn cases() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("1.0"), "ociVersion"),
        ("/ociVersion", json!(1), "ociVersion"),
        ("/hostname", json!(7), "hostname"),
        ("/root/path", json!(""), "root.path"),
        ("/root/readonly", json!("yes"), "root.readonly"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!([""]), "process.args"),
        ("/process/args", json!(["a\u{0}b"]), "process.args[0]"),
        ("/process/args", json!("sh"), "process.args"),
        ("/process/cwd", json!("tmp"), "process.cwd"),
        ("/process/env", json!(["A"]), "process.env[0]"),
        ("/process/env", json!(["A=1", "B=\u{0}"]), "process.env[1]"),
        ("/process/oomScoreAdj", json!(-1001), "process.oomScoreAdj"),
        ("/process/user", json!({"uid": -1, "gid": 0}), "process.user.uid"),
        ("/process/user", json!({"uid": 4_294_967_296_u64, "gid": 0}), "process.user.uid"),
        ("/process/user", json!({"uid": 4_294_967_295_u64, "gid": 0}), "process.user.uid"),
        ("/process/user", json!({"uid": 0, "gid": 0, "umask": 512}), "process.user.umask"),
        ("/process/consoleSize", json!({"height": 70000, "width": 1}), "process.consoleSize"),
        ("/process/capabilities", json!({"bounding": [7]}), "process.capabilities.bounding"),
        ("/process/rlimits", json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]), "process.rlimits[0].type"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]),
            "process.rlimits[0].soft",
        ),
        ("/process/scheduler", json!({"policy": "SCHED_X"}), "process.scheduler.policy"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 20}), "process.scheduler.nice"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": 1}), "process.scheduler.priority"),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO", "runtime": 1}), "process.scheduler.runtime"),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "process.ioPriority.priority",
        ),
        ("/process/ioPriority", json!({"class": "BE", "priority": 1}), "process.ioPriority.class"),
        ("/process/execCPUAffinity", json!({"initial": "x"}), "process.execCPUAffinity"),
        ("/process/execCPUAffinity", json!({"final": "0-8192"}), "process.execCPUAffinity.final"),
        ("/process/execCPUAffinity", json!({"final": "3-1"}), "process.execCPUAffinity.final"),
        ("/process/apparmorProfile", json!(1), "process.apparmorProfile"),
        ("/mounts/0/destination", json!(""), "mounts[0].destination"),
        ("/mounts/0/type", json!(3), "mounts[0].type"),
        ("/mounts/1", json!({"destination": "/d", "type": "bind", "options": ["bind"]}), "mounts[1].source"),
        ("/mounts/1", json!({"destination": "/d"}), "mounts[1].type"),
        (
            "/mounts/1",
            json!({"destination": "/d", "type": "bind", "source": "/tmp", "options": ["size=1"]}),
            "mounts[1].options",
        ),
        (
            "/mounts/1",
            json!({"destination": "/d", "type": "bind", "source": "/tmp", "options": ["idmap"]}),
            "mounts[1].uidMappings",
        ),
        (
            "/mounts/1",
            json!({"destination": "/d", "type": "tmpfs", "options": ["idmap"]}),
            "mounts[1].uidMappings",
        ),
        ("/mounts/1", json!({"destination": "/proc/sys", "type": "tmpfs"}), "mounts[1].destination"),
        ("/mounts/1", json!({"destination": "/proc", "type": "tmpfs"}), "mounts[1].destination"),
        (
            "/mounts/1",
            json!({"destination": "/d", "type": "tmpfs", "options": ["a\u{0}"]}),
            "mounts[1].options[0]",
        ),
        ("/hooks", json!({"prestart": [{"path": "x"}]}), "hooks.prestart[0].path"),
        ("/hooks", json!({"poststop": [{"path": "/x", "timeout": 0}]}), "hooks.poststop[0].timeout"),
        (
            "/hooks",
            json!({"createRuntime": [{"path": "/x", "timeout": -3}]}),
            "hooks.createRuntime[0].timeout",
        ),
        ("/hooks", json!({"startContainer": [{"args": []}]}), "hooks.startContainer[0]"),
        ("/linux/namespaces", json!([{"type": "uts"}]), "linux.namespaces"),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "mount"}]), "linux.namespaces[1].type"),
        ("/linux/namespaces", json!([{"type": "moon"}]), "linux.namespaces[0].type"),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "pid", "path": "p"}]),
            "linux.namespaces[1].path",
        ),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]), "linux.uidMappings"),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 0}]),
            "linux.uidMappings[0].size",
        ),
        (
            "/linux/gidMappings",
            json!([{"containerID": 1, "hostID": 0, "size": 4_294_967_295_u64}]),
            "linux.gidMappings[0]",
        ),
        ("/linux/timeOffsets", json!({"realtime": {"secs": 1}}), "linux.timeOffsets.realtime"),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "linux.timeOffsets"),
        (
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 1, "nanosecs": 1_000_000_000}}),
            "linux.timeOffsets.boottime.nanosecs",
        ),
        (
            "/linux/devices",
            json!([{"path": "/d", "type": "x", "major": 1, "minor": 1}]),
            "linux.devices[0].type",
        ),
        (
            "/linux/devices",
            json!([{"path": "/d", "type": "a", "major": 1, "minor": 1}]),
            "linux.devices[0].type",
        ),
        (
            "/linux/devices",
            json!([{"path": "/d", "type": "c", "major": -1, "minor": 1}]),
            "linux.devices[0].major",
        ),
        (
            "/linux/devices",
            json!([{"path": "/", "type": "c", "major": 1, "minor": 1}]),
            "linux.devices[0].path",
        ),
        (
            "/linux/resources",
            json!({"memory": {"limit": 1 << 20, "swap": 1 << 19}}),
            "invalid configuration: linux.resources.memory.swap",
        ),
        (
            "/linux/resources",
            json!({"memory": {"swappiness": 101}, "unified": {"a/b": "1"}}),
            "invalid configuration: linux.resources.",
        ),
        ("/linux/maskedPaths", json!(["proc"]), "linux.maskedPaths[0]"),
        ("/linux/readonlyPaths", json!(["/a", "b"]), "linux.readonlyPaths[1]"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
        ("/linux/sysctl", json!({"kernel.panic": "1"}), "linux.sysctl.kernel.panic"),
        ("/linux/sysctl", json!({"net.../x": "1"}), "linux.sysctl.net.../x"),
        ("/linux/sysctl", json!({"kernel.hostname": "x"}), "linux.sysctl.kernel.hostname"),
        ("/linux/personality", json!({"domain": "BSD"}), "linux.personality.domain"),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
            "linux.personality.flags[0]",
        ),
        ("/linux/memoryPolicy", json!({"mode": "BIND"}), "linux.memoryPolicy.mode"),
        ("/linux/memoryPolicy", json!({"nodes": "0"}), "linux.memoryPolicy"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy.nodes"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL", "nodes": "0"}), "linux.memoryPolicy.nodes"),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["X"]}),
            "linux.memoryPolicy.flags[0]",
        ),
        ("/linux/netDevices", json!({"a/b": {}}), "linux.netDevices.a/b"),
        ("/linux/netDevices", json!({"eth0": {"name": "sixteen-letters0"}}), "linux.netDevices.eth0.name"),
        ("/linux/netDevices", json!({"a": {"name": "x"}, "b": {"name": "x"}}), "linux.netDevices."),
        ("/linux/intelRdt", json!({"closID": ".."}), "linux.intelRdt.closID"),
        ("/linux/intelRdt", json!({"schemata": ["nothing"]}), "linux.intelRdt.schemata[0]"),
        ("/linux/intelRdt", json!({"memBwSchema": "x"}), "linux.intelRdt.memBwSchema"),
        ("/linux/seccomp", json!({"defaultAction": "ALLOW"}), "linux.seccomp.defaultAction"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]}),
            "linux.seccomp.architectures[0]",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"],
            "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_X"}]}]}),
            "linux.seccomp.syscalls[0].args[0].op",
        ),
        ("/linux/resources", json!({"memory": {"limit": "1g"}}), "linux.resources.memory.limit"),
        ("/linux/resources", json!({"devices": [{"allow": "no"}]}), "linux.resources.devices[0].allow"),
    ]
}

fn put(config: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
        parent => parent[name] = value,
    }
}

#[test]
fn root_every_bad_field_is_named_and_nothing_is_made() {
    let mut wrong = Vec::new();
    for (pointer, value, named) in cases() {
        let mut b = Bundle::new("true");
        put(&mut b.config, pointer, value.clone());
        let made = std::fs::read_dir(b.rootfs()).unwrap().count();
        let ended = b.run();
        let err = ended.err.replace("\\\"", "\"");
        if ended.code == 0 || !err.contains(named) {
            wrong.push(format!("{pointer} = {value}: {named} is not in: {err}"));
        }
        assert_eq!(std::fs::read_dir(b.rootfs()).unwrap().count(), made, "{pointer} = {value}");
        b.assert_nothing_left();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // the configuration that all of them are made from is fine
    Bundle::new("true").run().ok();
}

#[test]
fn root_unknown_fields_are_ignored_everywhere() {
    let mut b = Bundle::new("echo fine");
    for object in ["", "/process", "/process/user", "/root", "/linux", "/linux/namespaces/0", "/mounts/0"] {
        b.config.pointer_mut(object).unwrap()["org.example.unknown"] = json!({"a": [1, 2]});
    }
    assert_eq!(b.run().ok(), "fine\n");
}
