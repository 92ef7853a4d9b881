//! The options' `systemd_cgroup`: the runtime has systemd make the container's cgroup. Needs systemd as the first process:
//! `make test-vm` runs these.

#[allow(dead_code)] // each test uses some of it
mod stack;

use std::path::Path;
use std::process::Command;

use stack::Bundle;
use wharf_containerd::containerd::runc::v1::Options;
use wharf_containerd::containerd::task::v3::{
    CreateTaskRequest, CreateTaskResponse, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest,
    PidsResponse, ResumeRequest, StartRequest, StartResponse, StatsRequest, StatsResponse, WaitRequest,
    WaitResponse,
};
use wharf_containerd::{to_any, type_url};

/// A property of a unit, as `systemctl show` prints it.
fn show(unit: &str, property: &str) -> String {
    let shown = Command::new("systemctl").args(["show", "--value", "--property", property, unit]).output();
    String::from_utf8_lossy(&shown.expect("systemctl").stdout).trim().to_owned()
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_a_task_is_a_scope_where_the_options_say_so() {
    let bundle = Bundle::new("scope", &["sleep", "1000"]);
    let config = bundle.path().join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    spec["linux"]["cgroupsPath"] = format!("wharfshim.slice:wt:{}", bundle.id).into();
    spec["linux"]["resources"] = serde_json::json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}});
    std::fs::write(&config, spec.to_string()).unwrap();
    let unit = format!("wt-{}.scope", bundle.id);
    let options = Options {
        binary_name: stack::runtime(),
        root: bundle.dir().join("runtime").to_str().unwrap().to_owned(),
        systemd_cgroup: true,
        ..Options::default()
    };

    let mut shim = bundle.start();
    let create = CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        options: Some(to_any(type_url::RUNC_OPTIONS, &options)),
        ..CreateTaskRequest::default()
    };
    let _: CreateTaskResponse = shim.call("Create", &create).unwrap();
    let start = StartRequest { id: bundle.id.clone(), ..Default::default() };
    let pid = shim.call::<_, StartResponse>("Start", &start).unwrap().pid;
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroup.trim(), format!("0::/wharfshim.slice/{unit}"));
    assert_eq!(show(&unit, "ActiveState"), "active");
    assert_eq!((show(&unit, "MemoryMax"), show(&unit, "TasksMax")), ("67108864".into(), "20".into()));

    // what is executed later is in the unit as well
    let exec = ExecProcessRequest {
        id: bundle.id.clone(),
        exec_id: "e".into(),
        spec: Some(bundle.process(&["sleep", "1000"])),
        ..Default::default()
    };
    let () = shim.call("Exec", &exec).unwrap();
    let start = StartRequest { id: bundle.id.clone(), exec_id: "e".into() };
    let second = shim.call::<_, StartResponse>("Start", &start).unwrap().pid;
    let pids: PidsResponse = shim.call("Pids", &PidsRequest { id: bundle.id.clone() }).unwrap();
    let mut pids: Vec<u32> = pids.processes.iter().map(|p| p.pid).collect();
    pids.sort_unstable();
    assert_eq!(pids, if pid < second { [pid, second] } else { [second, pid] });
    let stats: StatsResponse = shim.call("Stats", &StatsRequest { id: bundle.id.clone() }).unwrap();
    assert!(stats.stats.is_some_and(|stats| stats.type_url.contains("cgroups.v2")), "its cgroup is known");
    let frozen = || std::fs::read_to_string(format!("/sys/fs/cgroup/wharfshim.slice/{unit}/cgroup.freeze"));
    let () = shim.call("Pause", &PauseRequest { id: bundle.id.clone() }).unwrap();
    assert_eq!(frozen().unwrap().trim(), "1");
    let () = shim.call("Resume", &ResumeRequest { id: bundle.id.clone() }).unwrap();
    assert_eq!(frozen().unwrap().trim(), "0");

    let kill = KillRequest { id: bundle.id.clone(), signal: 9, ..Default::default() };
    let () = shim.call("Kill", &kill).unwrap();
    for exec_id in ["", "e"] {
        let wait = WaitRequest { id: bundle.id.clone(), exec_id: exec_id.into() };
        assert_eq!(shim.call::<_, WaitResponse>("Wait", &wait).unwrap().exit_status, 137);
    }
    shim.delete(&bundle.id, "e");
    shim.delete(&bundle.id, "");
    assert!(!Path::new("/sys/fs/cgroup/wharfshim.slice").join(&unit).exists());
    assert_eq!(show(&unit, "LoadState"), "not-found");
    shim.shutdown();
}
