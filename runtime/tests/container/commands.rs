//! Commands that report and change: events, ps, update; and the service manager's notifications.

use crate::bundle::{Bundle, wait_until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

#[test]
fn root_events_come_each_interval_and_end_with_the_container() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let mut events =
        b.runw().args(["events", "--interval", "20ms", &b.id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = lines.next().unwrap().unwrap();
        assert!(line.starts_with(&format!("{{\"type\":\"stats\",\"id\":\"{}\",\"data\":", b.id)), "{line}");
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(b.id)));
        assert!(event["data"]["pids"]["current"].as_u64() >= Some(1), "{event}");
        assert!(event["data"]["intel_rdt"].is_object() && event["data"]["memory"].is_object(), "{event}");
    }
    b.call(&["kill", &b.id, "KILL"]).ok();
    assert!(events.wait().unwrap().success());
    b.call(&["events", &b.id]).fails_with(&format!("container with id {} is not running", b.id));
    b.call(&["events", "--interval", "0", &b.id]).fails_with("must be greater than 0");
    b.call(&["events", "--interval", "soon", &b.id]).fails_with("no duration");
}

#[test]
fn root_an_out_of_memory_kill_is_an_event() {
    let script = "cat /go; head -c 200000000 /dev/zero | tail -c 100000000 | wc -c; sleep 1000";
    let mut b = Bundle::new(script);
    std::os::unix::fs::symlink("busybox", b.rootfs().join("bin/tail")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        b.rootfs().join("go"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    b.config["linux"]["resources"]["memory"] = json!({"limit": 20_000_000, "swap": 20_000_000});
    b.run_detached();
    let mut events =
        b.runw().args(["events", "--interval", "10ms", &b.id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines().map(|l| l.unwrap());
    // watched from before the first statistics
    assert!(lines.next().unwrap().contains("\"stats\""));
    std::fs::write(b.rootfs().join("go"), "").unwrap();
    let oom = lines.find(|l| l.contains("\"type\":\"oom\"")).expect("an event");
    assert_eq!(serde_json::from_str::<Value>(&oom).unwrap(), json!({"type": "oom", "id": b.id}));
    events.kill().unwrap();
    events.wait().unwrap();
}

#[test]
fn root_ps_takes_options_and_shows_only_the_container() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let pid = b.state()["pid"].to_string();
    let table = b.call(&["ps", &b.id, "-e", "-o", "pid,comm"]).ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["PID", "COMMAND"]);
    assert_eq!(rows.len(), 2, "{table}");
    assert_eq!(rows[1][0], pid);
    let full = b.call(&["ps", &b.id]).ok();
    assert!(full.starts_with("UID ") && full.contains("sleep 1000"), "{full}");
    b.call(&["ps", &b.id, "-e", "-o", "comm"]).fails_with("couldn't find PID field");
    b.call(&["ps", &b.id, "--no-such-option"]).fails_with("ps: exit status: 1");
}

#[test]
fn root_update_takes_resources_from_standard_input() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let mut update = b.runw().args(["update", "-r", "-", &b.id]).stdin(Stdio::piped()).spawn().unwrap();
    let text = br#"{"pids": {"limit": 77}, "cpu": {"quota": 40000, "period": 100000}}"#;
    std::io::Write::write_all(&mut update.stdin.take().unwrap(), text).unwrap();
    assert!(update.wait().unwrap().success());
    let read = |name: &str| {
        let mut found = b.cgroups().into_iter().filter_map(|d| std::fs::read_to_string(d.join(name)).ok());
        found.next().map(|t| t.trim().to_owned())
    };
    assert_eq!(read("pids.max").as_deref(), Some("77"));
    b.call(&["update", "--pids-limit", "78", "--cpu-idle", "1", &b.id]).ok();
    assert_eq!(read("pids.max").as_deref(), Some("78"));
    assert_eq!(read("cpu.idle").as_deref(), Some("1"));
    b.call(&["update", "--l3-cache-schema", "L3:0=f", &b.id]).fails_with("Intel RDT/CAT");
    b.call(&["update", "--memory", "much", &b.id]).fails_with("--memory");
}

#[test]
fn root_exec_takes_cgroups_by_controller() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let exec = |cgroups: &[&str]| {
        let mut args = vec!["exec"];
        cgroups.iter().for_each(|c| args.extend(["--cgroup", c]));
        args.extend([b.id.as_str(), "cat", "/proc/self/cgroup"]);
        b.call(&args)
    };
    exec(&["a", "b"]).fails_with("missing <controller>: prefix");
    exec(&[":a"]).fails_with("empty <controller> prefix");
    exec(&["nothing:a"]).fails_with("unknown controller");
    let Some(pids) = b.cgroups().into_iter().find(|d| d.to_string_lossy().contains("/pids/")) else { return };
    std::fs::create_dir(pids.join("sub")).unwrap();
    exec(&["pids:sub", "pids:sub"]).fails_with("specified multiple times");
    let out = exec(&["pids:sub"]).ok();
    assert!(out.lines().any(|l| l.ends_with(":pids:/sub")), "{out}");
    assert!(out.lines().any(|l| l.contains("memory") && l.ends_with(":/")), "{out}");
}

/// A service manager's end of the socket.
fn manager(b: &Bundle) -> (UnixDatagram, std::path::PathBuf) {
    let path = b.path().join("manager.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::bundle::PATIENCE)).unwrap();
    (socket, path)
}

fn message(socket: &UnixDatagram) -> String {
    let mut bytes = [0u8; 4096];
    let n = socket.recv(&mut bytes).expect("a message");
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

/// Sends from inside, by the host's name of the container's socket: busybox has nothing that sends a datagram.
fn say(b: &Bundle, text: &str) {
    let path = b.state_root().join(&b.id).join("notify/notify.sock");
    UnixDatagram::unbound().unwrap().send_to(text.as_bytes(), path).unwrap();
}

#[test]
fn root_start_tells_the_service_manager_that_the_container_is_ready() {
    let b =
        Bundle::new("echo $NOTIFY_SOCKET > /tmp/name; stat -c %F $NOTIFY_SOCKET >> /tmp/name; sleep 1000");
    let (socket, path) = manager(&b);
    b.write_config();
    let runw = |args: &[&str]| {
        b.runw().args(args).env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).spawn().unwrap()
    };
    assert!(runw(&["create", &b.id]).wait().unwrap().success());
    let mut start = runw(&["start", &b.id]);
    wait_until("the script", || {
        std::fs::read_to_string(b.rootfs().join("tmp/name")).is_ok_and(|t| t.lines().count() == 2)
    });
    let name = std::fs::read_to_string(b.rootfs().join("tmp/name")).unwrap();
    assert_eq!(name, "/run/notify/notify.sock\nsocket\n");
    say(&b, "STATUS=READY=1\nMAINPID=1");
    say(&b, "FDSTORE=1\nREADY=1\nMAINPID=1");
    assert_eq!(message(&socket), "READY=1\n");
    assert_eq!(message(&socket), format!("MAINPID={}\n", b.state()["pid"]));
    assert_eq!(message(&socket), "BARRIER=1");
    assert!(start.wait().unwrap().success());
    b.call(&["delete", "--force", &b.id]).ok();
    b.assert_nothing_left();
}

#[test]
fn root_run_tells_the_service_manager_about_itself_and_start_ends_with_a_silent_container() {
    let b = Bundle::new("sleep 1000");
    let (socket, path) = manager(&b);
    b.write_config();
    let mut run = b.runw().args(["run", &b.id]).env("NOTIFY_SOCKET", &path).spawn().unwrap();
    wait_until("the container", || b.call(&["state", &b.id]).out.contains("\"running\""));
    say(&b, "READY=1");
    assert_eq!(message(&socket), "READY=1\n");
    assert_eq!(message(&socket), format!("MAINPID={}\n", run.id()));
    b.call(&["kill", &b.id, "KILL"]).ok();
    assert_eq!(run.wait().unwrap().code(), Some(137));
    b.assert_nothing_left();
    let silent = Bundle::new("true");
    silent.write_config();
    let status = silent.runw().args(["run", "-d", &silent.id]).env("NOTIFY_SOCKET", &path).status();
    assert!(status.unwrap().success());
}
