use crate::bundle::Bundle;
use serde_json::json;

fn forbids_mkdir(no_new_privileges: bool) -> Bundle {
    let mut b = Bundle::new("mkdir /tmp/d 2>&1; grep ^Seccomp: /proc/self/status; echo done");
    b.config["process"]["noNewPrivileges"] = no_new_privileges.into();
    b.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
    });
    b
}

#[test]
fn root_a_filter_applies_to_the_program() {
    for no_new_privileges in [true, false] {
        let b = forbids_mkdir(no_new_privileges);
        let out = b.run().ok();
        assert!(out.contains("not supported"), "{out}");
        assert!(out.contains("Seccomp:\t2\ndone\n"), "{out}");
    }
}

#[test]
fn root_a_late_filter_need_not_allow_what_the_runtime_does() {
    let mut b = Bundle::new("echo done");
    b.config["process"]["noNewPrivileges"] = true.into();
    b.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["close_range", "prlimit64", "setrlimit"], "action": "SCMP_ACT_ERRNO"}]
    });
    assert_eq!(b.run().ok(), "done\n");
    b.config["process"]["args"] = json!(["sleep", "1000"]);
    b.run_detached();
    assert_eq!(b.exec(&["echo", "done"]).ok(), "done\n");
}

#[test]
fn root_an_early_filter_need_not_allow_the_newest_calls() {
    let newest = [
        "close_range",
        "fsopen",
        "fsconfig",
        "fspick",
        "openat2",
        "open_tree",
        "move_mount",
        "mount_setattr",
    ];
    let mut b = Bundle::new("echo done");
    b.config["process"]["noNewPrivileges"] = false.into();
    b.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": newest, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
    });
    assert_eq!(b.run().ok(), "done\n");
    b.config["process"]["args"] = json!(["sleep", "1000"]);
    b.run_detached();
    assert_eq!(b.exec(&["echo", "done"]).ok(), "done\n");
}

#[test]
fn root_start_hooks_run_under_the_filter() {
    for no_new_privileges in [true, false] {
        let mut b = forbids_mkdir(no_new_privileges);
        b.config["hooks"]["startContainer"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", "mkdir /tmp/by-hook"]}]);
        b.run().fails_with("error running startContainer hook #0").fails_with("not supported");
        assert!(!b.rootfs().join("tmp/by-hook").exists());
        b.assert_nothing_left();
    }
}

#[test]
fn root_the_flags_of_the_filter_are_a_line_for_debugging() {
    let mut b = forbids_mkdir(false);
    b.config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
    b.write_config();
    let log = b.path().join("log");
    b.call(&["--debug", "--log", &log.to_string_lossy(), "run", &b.id]).ok();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("level=debug msg=\"seccomp filter flags: 2\""), "{log}");
}

#[test]
fn root_a_filter_applies_to_execs() {
    let mut b = forbids_mkdir(true);
    b.config["process"]["args"] = json!(["sleep", "1000"]);
    b.run_detached();
    let ended = b.exec(&["mkdir", "/tmp/d"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("not supported"), "{}", ended.err);
}

#[test]
fn root_the_agent_gets_the_notification_descriptor_and_the_state() {
    for no_new_privileges in [true, false] {
        let mut b = forbids_mkdir(no_new_privileges);
        b.config["process"]["args"] = json!(["sleep", "1000"]);
        let path = b.path().join("agent");
        b.config["linux"]["seccomp"]["syscalls"][0] =
            json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
        b.config["linux"]["seccomp"]["listenerPath"] = path.to_string_lossy().into();
        b.config["linux"]["seccomp"]["listenerMetadata"] = "for the agent".into();
        let (fd, message) =
            crate::terminals::receiver(std::os::unix::net::UnixListener::bind(&path).unwrap(), || {
                b.run_detached();
            });
        let link =
            std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
        assert!(link.to_string_lossy().contains("seccomp notify"), "{link:?}");
        let message: serde_json::Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(message["fds"], json!(["seccompFd"]));
        assert_eq!(message["metadata"], "for the agent");
        assert_eq!(message["state"]["id"], b.id.as_str());
        assert_eq!(message["pid"], b.state()["pid"]);
    }
}

#[test]
fn root_an_exec_gets_a_notification_descriptor_of_its_own() {
    for no_new_privileges in [true, false] {
        let mut b = forbids_mkdir(no_new_privileges);
        b.config["process"]["args"] = json!(["sleep", "1000"]);
        let path = b.path().join("agent");
        b.config["linux"]["seccomp"]["syscalls"][0] =
            json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
        b.config["linux"]["seccomp"]["listenerPath"] = path.to_string_lossy().into();
        let receive = |act: &dyn Fn()| {
            let _ = std::fs::remove_file(&path);
            crate::terminals::receiver(std::os::unix::net::UnixListener::bind(&path).unwrap(), act)
        };
        let _init = receive(&|| {
            b.run_detached();
        });
        let pid_file = b.path().join("exec.pid");
        let (fd, message) = receive(&|| {
            b.call(&["exec", "-d", "--pid-file", pid_file.to_str().unwrap(), &b.id, "sleep", "1000"]).ok();
        });
        let link =
            std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
        assert!(link.to_string_lossy().contains("seccomp notify"), "{link:?}");
        let message: serde_json::Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(message["pid"].to_string(), std::fs::read_to_string(&pid_file).unwrap());
        assert_eq!(message["state"]["pid"], b.state()["pid"]);
        assert_eq!(message["state"]["status"], "running");
    }
}
