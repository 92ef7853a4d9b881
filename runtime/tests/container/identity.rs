use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn root_capabilities_are_exactly_those_asked_for() {
    let mut b = Bundle::new("grep ^Cap /proc/self/status");
    b.config["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN", "CAP_KILL"]});
    let out = b.run().ok();
    let values: Vec<u64> =
        out.lines().map(|l| u64::from_str_radix(l.split_whitespace().nth(1).unwrap(), 16).unwrap()).collect();
    // root's exec adds permitted = bounding; inheritable and ambient stay empty (CVE-2022-24769, CVE-2022-29162)
    assert_eq!(values, [0, 0x21, 0x21, 0x21, 0]);
}

#[test]
fn root_a_user_has_exactly_its_groups_and_no_capabilities() {
    let mut b =
        Bundle::new("id -u; id -G; grep -E '^Cap(Prm|Eff)|^NoNewPrivs' /proc/self/status; echo $HOME; umask");
    std::fs::write(b.rootfs().join("etc/passwd"), "u:x:1000:1000::/home/u:/bin/sh\n").unwrap();
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7], "umask": 0o77});
    let out = b.run().ok();
    assert_eq!(
        out,
        "1000\n1001 7\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n/home/u\n0077\n"
    );
}

#[test]
fn root_ambient_capabilities_reach_a_user() {
    let mut b = Bundle::new("grep ^CapEff /proc/self/status");
    let kill = json!(["CAP_KILL"]);
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    b.config["process"]["capabilities"] =
        json!({"bounding": kill, "effective": kill, "permitted": kill, "inheritable": kill, "ambient": kill});
    assert_eq!(b.run().ok(), "CapEff:\t0000000000000020\n");
}

#[test]
fn root_an_empty_home_is_the_users() {
    let mut b = Bundle::new("echo $HOME; env | grep -c ^HOME=");
    std::fs::write(b.rootfs().join("etc/passwd"), "u:x:1000:1000::/home/u:/bin/sh\n").unwrap();
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    b.config["process"]["env"] = json!(["PATH=/bin", "HOME=/x", "HOME="]);
    assert_eq!(b.run().ok(), "/home/u\n1\n");
}

#[test]
fn root_limits_and_scores_are_set() {
    let mut b = Bundle::new("ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj");
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    b.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 100}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    b.config["process"]["oomScoreAdj"] = 123.into();
    assert_eq!(b.run().ok(), "5\n100\n0\n123\n");
}

#[test]
fn root_a_user_can_write_to_its_standard_streams_by_name() {
    let mut b = Bundle::new("echo x > /dev/stdout; echo y > /dev/stderr");
    b.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let ended = b.run();
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "x\n", "y\n"));
}

#[test]
fn root_the_working_directory_is_made_and_entered() {
    let mut b = Bundle::new("pwd");
    b.config["process"]["cwd"] = "/made/for/it".into();
    b.config["root"]["readonly"] = true.into();
    assert_eq!(b.run().ok(), "/made/for/it\n");
}

#[test]
fn root_signals_are_as_in_a_fresh_process() {
    let mut b = Bundle::new("");
    // not through a shell, which has its own ideas of SIGQUIT
    b.config["process"]["args"] = json!(["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]);
    assert_eq!(
        b.run().ok(),
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n"
    );
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let out = b.exec(&["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]).ok();
    assert!(out.lines().all(|l| l.ends_with("0000000000000000")), "{out}");
}

#[test]
fn root_scheduler_and_io_priority_are_set() {
    let mut b = Bundle::new("sleep 1000");
    b.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    b.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    b.run_detached();
    let pid = b.state()["pid"].to_string();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // proc_pid_stat(5): nice is field 19, policy field 41, counted from 1; two fields precede these
    assert_eq!((fields[16], fields[38]), ("7", "3"));
    let ionice = std::process::Command::new("ionice").args(["-p", &pid]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ionice.stdout).trim(), "idle");
}

#[test]
fn root_a_capability_that_nobody_knows_or_that_cannot_be_ambient_is_a_warning() {
    let mut b = Bundle::new("grep -E 'Cap(Bnd|Amb)' /proc/self/status");
    b.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL", "CAP_UNKNOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]
    });
    let ended = b.run();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.out, "CapBnd:\t0000000000000020\nCapAmb:\t0000000000000020\n");
    for text in [
        "level=warning msg=\"ignoring unknown or unavailable capabilities: [CAP_UNKNOWN]\"",
        "level=warning msg=\"can't raise ambient capability CAP_CHOWN: operation not permitted\"",
    ] {
        assert!(ended.err.contains(text), "{}", ended.err);
    }
}

#[test]
fn root_a_deadline_goes_with_all_cpus_only() {
    let mut b = Bundle::new("true");
    b.config["process"]["scheduler"] =
        json!({"policy": "SCHED_DEADLINE", "runtime": 42_000, "deadline": 1_000_000, "period": 1_000_000});
    b.config["linux"]["resources"]["cpu"] = json!({"cpus": "0"});
    b.run().fails_with("process scheduler can't be used together with AllowedCPUs");
    b.assert_nothing_left();
}
