use crate::bundle::{Bundle, wait_until};
use serde_json::json;

#[test]
fn root_create_waits_for_start() {
    let mut b = Bundle::new("echo started > /tmp/mark; sleep 1000");
    b.config["annotations"] = json!({"a": "b"});
    b.write_config();
    let pid_file = b.path().join("pid");
    b.call(&["create", "--pid-file", &pid_file.to_string_lossy(), &b.id]).ok();
    let state = b.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["annotations"]["a"], "b");
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), state["pid"].to_string());
    assert!(!b.rootfs().join("tmp/mark").exists());
    b.call(&["start", &b.id]).ok();
    wait_until("the program", || b.rootfs().join("tmp/mark").exists());
    assert_eq!(b.state()["status"], "running");
    b.call(&["start", &b.id]).fails_with("cannot start an already running container");
    b.call(&["delete", &b.id]).fails_with("that is not stopped: running");
    b.call(&["kill", &b.id, "KILL"]).ok();
    b.wait_for_status("stopped");
    assert_eq!(b.state()["pid"], 0);
    b.call(&["kill", &b.id, "KILL"]).fails_with("container not running");
    b.call(&["start", &b.id]).fails_with("cannot start a container that has stopped");
    b.call(&["delete", &b.id]).ok();
    b.call(&["state", &b.id]).fails_with("container does not exist");
    b.assert_nothing_left();
}

#[test]
fn root_run_returns_the_exit_code_and_leaves_nothing() {
    let b = Bundle::new("echo out; echo err >&2; exit 3");
    let ended = b.run();
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (3, "out\n", "err\n"));
    b.assert_nothing_left();
    let b = Bundle::new("sh -c 'kill -9 $$'; exit $?");
    assert_eq!(b.run().code, 137);
}

#[test]
fn root_delete_force_ends_a_running_container() {
    let b = Bundle::new("trap '' TERM; sleep 1000 & wait; wait");
    b.run_detached();
    b.call(&["delete", "--force", &b.id]).ok();
    b.assert_nothing_left();
    b.call(&["delete", "--force", &b.id]).ok();
    b.call(&["delete", &b.id]).fails_with("container does not exist");
}

#[test]
fn root_a_created_container_can_be_deleted() {
    let b = Bundle::new("true");
    b.write_config();
    b.call(&["create", &b.id]).ok();
    b.call(&["create", &b.id]).fails_with("container with given ID already exists");
    b.call(&["delete", &b.id]).ok();
    b.assert_nothing_left();
}

#[test]
fn root_pause_stops_the_clock_of_the_container() {
    let b = Bundle::new("while :; do echo x >> /tmp/ticks; sleep 0.01; done");
    b.run_detached();
    let ticks = b.rootfs().join("tmp/ticks");
    let count = || std::fs::metadata(&ticks).map_or(0, |m| m.len());
    wait_until("a tick", || count() > 0);
    b.call(&["pause", &b.id]).ok();
    assert_eq!(b.state()["status"], "paused");
    b.exec(&["true"]).fails_with("cannot exec in a paused container");
    b.call(&["pause", &b.id]).fails_with("container not running");
    let frozen = count();
    std::thread::sleep(std::time::Duration::from_millis(100)); // what must not happen cannot be waited for
    assert_eq!(count(), frozen);
    b.call(&["resume", &b.id]).ok();
    assert_eq!(b.state()["status"], "running");
    wait_until("another tick", || count() > frozen);
    b.call(&["resume", &b.id]).fails_with("container not paused");
    b.call(&["pause", &b.id]).ok();
    b.call(&["kill", &b.id, "9"]).ok();
    b.wait_for_status("stopped");
}

#[test]
fn root_signals_reach_the_foreground_process() {
    let b = Bundle::new("trap 'exit 9' TERM; echo ready > /tmp/ready; while :; do sleep 0.01; done");
    b.write_config();
    let mut runw = b.runw().args(["run", &b.id]).spawn().unwrap();
    wait_until("the program", || b.rootfs().join("tmp/ready").exists());
    let pid = rustix::process::Pid::from_raw(runw.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(runw.wait().unwrap().code(), Some(9));
    b.assert_nothing_left();
}

#[test]
fn root_list_and_ps_show_what_runs() {
    let b = Bundle::new("sleep 1000");
    std::fs::create_dir_all(b.state_root()).unwrap();
    assert_eq!(b.call(&["list", "--format", "json"]).ok(), "null\n");
    b.run_detached();
    let list: serde_json::Value = serde_json::from_str(&b.call(&["list", "--format", "json"]).ok()).unwrap();
    assert_eq!(list[0]["id"], b.id.as_str());
    assert_eq!(list[0]["owner"], "root");
    assert_eq!(b.call(&["list", "--quiet"]).ok(), format!("{}\n", b.id));
    assert!(b.call(&["list"]).ok().contains("running"));
    let pids: Vec<i64> = serde_json::from_str(&b.call(&["ps", "--format", "json", &b.id]).ok()).unwrap();
    assert!(pids.contains(&b.state()["pid"].as_i64().unwrap()));
    assert!(b.call(&["ps", &b.id]).ok().contains("sleep 1000"));
}

#[test]
fn root_a_root_directory_that_is_named_has_to_exist_to_be_listed() {
    let b = Bundle::new("true");
    let missing = b.path().join("missing");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_runw"))
        .args(["--root", &missing.to_string_lossy(), "list"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("opening "));
    assert!(!missing.exists());
}

#[test]
fn root_errors_are_logged_as_json_and_said_aloud() {
    let b = Bundle::new("true");
    let log = b.path().join("log.json");
    let ended = b.call(&["--log", &log.to_string_lossy(), "--log-format", "json", "state", "nobody"]);
    assert_eq!(ended.code, 1);
    assert_eq!(ended.err, "container does not exist\n");
    let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "container does not exist");
    assert!(line["time"].is_string());
}

#[test]
fn root_the_state_directory_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let mode = |p: std::path::PathBuf| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(b.state_root()), 0o700);
    assert_eq!(mode(b.state_root().join(&b.id)), 0o711);
    assert_eq!(mode(b.state_root().join(&b.id).join("state.json")), 0o600);
}

#[test]
fn root_limits_are_applied_and_updated() {
    let mut b = Bundle::new("sleep 1000");
    b.config["linux"]["resources"]["pids"] = json!({"limit": 17});
    b.run_detached();
    let read = |b: &Bundle| {
        let dirs = b.cgroups();
        let file = dirs.iter().map(|d| d.join("pids.max")).find(|f| f.exists()).expect("pids.max");
        std::fs::read_to_string(file).unwrap()
    };
    assert_eq!(read(&b), "17\n");
    b.call(&["update", "--pids-limit", "23", &b.id]).ok();
    assert_eq!(read(&b), "23\n");
    let stats: serde_json::Value = serde_json::from_str(&b.call(&["events", "--stats", &b.id]).ok()).unwrap();
    assert_eq!(stats["type"], "stats");
    assert_eq!(stats["data"]["pids"]["limit"], 23);
}

#[test]
fn root_a_created_container_takes_the_signals_that_end() {
    for signal in ["TERM", "INT", "15"] {
        let b = Bundle::new("sleep 1000");
        b.write_config();
        b.call(&["create", &b.id]).ok();
        b.call(&["kill", &b.id, signal]).ok();
        b.wait_for_status("stopped");
        b.call(&["delete", &b.id]).ok();
        b.assert_nothing_left();
    }
}

/// What is open while a container waits to be started: its streams, the fifo, sockets of the runtime, the procfs, and the
/// root. Nothing of the host's cgroups, and nothing of the caller's.
#[test]
fn root_a_created_container_holds_no_descriptors_of_others() {
    let b = Bundle::new("sleep 1000");
    b.write_config();
    let (mut read, write) = std::io::pipe().unwrap();
    let mut command = b.runw();
    command.args(["create", &b.id]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    wharf_sys::inherit::inherit(&mut command, vec![(write.into(), 9)]).unwrap();
    assert!(command.status().unwrap().success());
    drop(command);
    // would not come to an end before the start, if init held the pipe
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut read, &mut rest).unwrap();
    assert_eq!(b.state()["status"], "created");
    let fds = format!("/proc/{}/fd", b.state()["pid"]);
    let targets = std::fs::read_dir(fds).unwrap().map(|e| std::fs::read_link(e.unwrap().path()).unwrap());
    let targets: Vec<String> = targets.map(|t| t.to_string_lossy().into_owned()).collect();
    let allowed = |t: &String| {
        // the third is the container's procfs, through which init opens the fifo
        ["/", "/dev/null", "/proc/1/task/1/fd"].contains(&t.as_str())
            || t.starts_with("socket:[")
            || t.ends_with("/exec.fifo")
    };
    assert!(targets.iter().all(allowed), "{targets:?}");
}

#[test]
fn root_a_started_program_that_cannot_be_executed_is_told_of_in_its_output() {
    let mut b = Bundle::new("");
    b.config["process"]["args"] = json!(["/bad"]);
    std::fs::write(b.rootfs().join("bad"), "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(b.rootfs().join("bad"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    b.write_config();
    let err = b.path().join("err");
    let status = b.runw().args(["create", &b.id]).stderr(std::fs::File::create(&err).unwrap()).status();
    assert!(status.unwrap().success());
    b.call(&["start", &b.id]).ok();
    b.wait_for_status("stopped");
    assert_eq!(std::fs::read_to_string(&err).unwrap(), "exec /bad: no such file or directory\n");
}
