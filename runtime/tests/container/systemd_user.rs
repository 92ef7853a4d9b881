//! An ordinary user's containers below the user's own systemd. They need one for the machine: `make test-vm` runs them.

use crate::bundle::{Ended, wait_until};
use crate::rootless::{NOBODYS, Own};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The user's manager, as a service of the machine's with a part of the cgroups to itself.
struct Manager(String);

impl Manager {
    fn start(b: &Own) -> Self {
        let unit = format!("wt-user-{}.service", b.0.id);
        let started = Command::new("systemd-run")
            .args(["--quiet", "--unit", &unit, "--property=Delegate=yes", "--property=Type=notify"])
            .arg(format!("--uid={NOBODYS}"))
            .arg(format!("--setenv=XDG_RUNTIME_DIR={}", b.0.path().join("run").display()))
            .arg(format!("--setenv=HOME={}", b.0.path().display()))
            .args(["/lib/systemd/systemd", "--user"])
            .output()
            .expect("systemd-run");
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        Self(unit)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["stop", &self.0]).status();
    }
}

fn cgroup_of(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().trim().trim_start_matches("0::").to_owned()
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_a_users_processes_are_attached_to_a_unit_of_the_users_manager() {
    let mut b = Own::new("sleep 1000");
    let manager = Manager::start(&b);
    b.0.config["linux"]["cgroupsPath"] = format!(":wt:{}", b.0.id).into();
    b.0.config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}});
    b.0.write_config();
    // this process is in a cgroup of another unit, from which the user may move nothing
    let own = cgroup_of("self");
    assert!(!own.contains(&manager.0), "{own}");
    b.call(&["--systemd-cgroup", "run", "--detach", &b.0.id]).ok();
    let cgroup = cgroup_of(&b.state()["pid"].to_string());
    assert!(cgroup.contains(&manager.0) && cgroup.ends_with(&format!("/wt-{}.scope", b.0.id)), "{cgroup}");
    let dir = PathBuf::from("/sys/fs/cgroup").join(cgroup.trim_start_matches('/'));
    assert_eq!(fs::read_to_string(dir.join("memory.max")).unwrap().trim(), "67108864");
    assert_eq!(fs::read_to_string(dir.join("pids.max")).unwrap().trim(), "20");

    let pid_file = b.0.path().join("run/pid");
    b.call(&["exec", "--detach", "--pid-file", &pid_file.to_string_lossy(), &b.0.id, "sleep", "1000"]).ok();
    assert_eq!(cgroup_of(&fs::read_to_string(pid_file).unwrap()), cgroup);
    b.call(&["update", "--memory", "33554432", &b.0.id]).ok();
    assert_eq!(fs::read_to_string(dir.join("memory.max")).unwrap().trim(), "33554432");
    b.call(&["delete", "--force", &b.0.id]).ok();
    wait_until("the end of the unit", || !dir.exists());
    b.assert_nothing_left();
}

#[test]
#[ignore = "needs systemd as the first process: make test-vm"]
fn systemd_a_logged_in_users_containers_are_in_the_users_own_slice() {
    // as logging in starts it; one for all tests of this user
    let service = format!("user@{NOBODYS}.service");
    let started = Command::new("systemctl").args(["start", &service]).output().expect("systemctl");
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let runtime = format!("/run/user/{NOBODYS}");
    let mut b = Own::new("sleep 1000");
    b.0.config["linux"]["cgroupsPath"] = format!("user.slice:wt:{}", b.0.id).into();
    b.0.config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}});
    b.0.write_config();
    let call = |args: &[&str]| {
        let (out, err) = (b.0.path().join("out"), b.0.path().join("err"));
        let mut command = b.runw();
        command.env("XDG_RUNTIME_DIR", &runtime).args(["--systemd-cgroup"]).args(args);
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let status = command.status().unwrap();
        let read = |path| fs::read_to_string(path).unwrap();
        Ended { code: status.code().unwrap_or(-1), out: read(&out), err: read(&err) }
    };
    call(&["run", "--detach", &b.0.id]).ok();
    let state: serde_json::Value = serde_json::from_str(&call(&["state", &b.0.id]).ok()).unwrap();
    let cgroup = cgroup_of(&state["pid"].to_string());
    let expected = format!("/user.slice/user-{NOBODYS}.slice/{service}/user.slice/wt-{}.scope", b.0.id);
    assert_eq!(cgroup, expected);
    let dir = PathBuf::from("/sys/fs/cgroup").join(cgroup.trim_start_matches('/'));
    assert_eq!(fs::read_to_string(dir.join("memory.max")).unwrap().trim(), "67108864");
    assert_eq!(fs::read_to_string(dir.join("pids.max")).unwrap().trim(), "20");
    assert_eq!(call(&["exec", &b.0.id, "sh", "-c", "echo in it; exit 4"]).code, 4);
    call(&["update", "--memory", "33554432", "--pids-limit", "30", &b.0.id]).ok();
    assert_eq!(fs::read_to_string(dir.join("memory.max")).unwrap().trim(), "33554432");
    call(&["delete", "--force", &b.0.id]).ok();
    wait_until("the end of the unit", || !dir.exists());
}
