//! As an ordinary user: the tests drop to a uid that nobody has.

use crate::bundle::{Bundle, Ended, RUNW, wait_until};
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

pub const NOBODYS: u32 = 54_321;
/// Ids that the user may map in addition, where a test says so.
const MORE: u32 = 700_000;

/// A bundle that is the user's, with the configuration that `spec --rootless` writes.
pub struct Own(pub Bundle);

impl Own {
    pub fn new(script: &str) -> Self {
        let bundle = Bundle::new(script);
        std::fs::set_permissions(bundle.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(bundle.path().join("run")).unwrap();
        let mut all = vec![bundle.path().to_owned(), bundle.path().join("run"), bundle.rootfs()];
        all.extend(std::fs::read_dir(bundle.rootfs()).unwrap().flatten().map(|e| e.path()));
        for path in all {
            chown(path, Some(NOBODYS), Some(NOBODYS)).unwrap();
        }
        // where cargo has built it the user may not be able to look
        std::fs::copy(RUNW, bundle.path().join("runw")).unwrap();
        let mut own = Self(bundle);
        own.call(&["spec", "--rootless"]).ok();
        let text = std::fs::read_to_string(own.0.path().join("config.json")).unwrap();
        let args = own.0.config["process"]["args"].take();
        own.0.config = serde_json::from_str(&text).unwrap();
        own.0.config["process"]["args"] = args;
        own.0.config["process"]["terminal"] = false.into();
        own.0.config["root"]["readonly"] = false.into();
        own
    }

    /// runw as the user, with the state root that it takes by itself.
    pub fn runw(&self) -> Command {
        let mut command = Command::new(self.0.path().join("runw"));
        command.uid(NOBODYS).gid(NOBODYS).current_dir(self.0.path()).stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", self.0.path().join("run"));
        command
    }

    pub fn call(&self, args: &[&str]) -> Ended {
        let path = |name: &str| self.0.path().join(name);
        let file = |name: &str| std::fs::File::create(path(name)).unwrap();
        let status = self.runw().args(args).stdout(file("out")).stderr(file("err")).status().unwrap();
        let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        Ended { code: status.code().unwrap_or(-1), out: read("out"), err: read("err") }
    }

    fn run(&self) -> Ended {
        self.0.write_config();
        self.call(&["run", &self.0.id])
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.call(&["state", &self.0.id]).ok()).unwrap()
    }

    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let root = self.0.path().join("run/runw");
        let left: Vec<_> = std::fs::read_dir(root).map(|d| d.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.0.id]);
    }
}

#[test]
fn root_an_ordinary_user_runs_a_container_as_its_root() {
    let own = Own::new("id -u; cat /proc/self/uid_map; echo $$; touch /tmp/made; hostname; ls /sys/class");
    let out = own.run().ok();
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("0"));
    let map: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", &NOBODYS.to_string(), "1"]);
    assert_eq!(lines.next(), Some("1"), "a pid namespace of its own");
    assert_eq!(lines.next(), Some("runw"), "{out}");
    let made = std::fs::metadata(own.0.rootfs().join("tmp/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), NOBODYS);
    own.assert_nothing_left();
}

#[test]
fn root_an_ordinary_user_creates_execs_lists_kills_and_deletes() {
    let own = Own::new("sleep 1000 & wait");
    own.0.write_config();
    let id = own.0.id.as_str();
    own.call(&["create", id]).ok();
    assert_eq!(own.state()["status"], "created");
    own.call(&["start", id]).ok();
    assert_eq!(own.state()["status"], "running");
    let out = own.call(&["exec", id, "sh", "-c", "id -u; readlink /proc/self/ns/user"]).ok();
    let pid = own.state()["pid"].to_string();
    let ns = std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_eq!(out, format!("0\n{}\n", ns.display()));
    assert_eq!(own.call(&["exec", id, "sh", "-c", "exit 7"]).code, 7);
    // without a cgroup: by the pid namespace
    wait_until("two processes", || {
        let pids: Vec<i32> = serde_json::from_str(&own.call(&["ps", "--format", "json", id]).ok()).unwrap();
        pids.len() == 2 && pids.iter().any(|p| p.to_string() == pid)
    });
    own.call(&["pause", id]).fails_with("cgroup");
    own.call(&["kill", id, "KILL"]).ok();
    wait_until("the end", || own.state()["status"] == "stopped");
    own.call(&["delete", id]).ok();
    own.assert_nothing_left();
}

#[test]
fn root_an_ordinary_user_deletes_by_force_what_runs_without_a_pid_namespace() {
    let mut own = Own::new("sleep 1000");
    let list = own.0.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|ns| ns["type"] != "pid");
    // a procfs of its own takes a pid namespace of its own
    for mount in own.0.config["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/proc" {
            *mount = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
        }
    }
    own.0.config["linux"].as_object_mut().unwrap().remove("maskedPaths");
    own.0.config["linux"].as_object_mut().unwrap().remove("readonlyPaths");
    own.0.write_config();
    own.call(&["run", "--detach", &own.0.id]).ok();
    let pid = own.state()["pid"].to_string();
    own.call(&["delete", "--force", &own.0.id]).ok();
    let stat = format!("/proc/{pid}/stat");
    assert!(std::fs::read_to_string(stat).map_or(true, |s| s.contains(") Z ")));
    own.assert_nothing_left();
}

#[test]
fn root_a_limit_without_a_cgroup_is_refused_and_leaves_nothing() {
    let mut own = Own::new("true");
    own.0.config["linux"]["resources"] = json!({"memory": {"limit": 100_000_000}});
    own.run().fails_with("cannot set memory limit: container could not join or create cgroup");
    own.assert_nothing_left();
    own.0.config["linux"]["resources"] = json!({});
    own.0.config["linux"]["cgroupsPath"] = format!("/runw-test-{}", own.0.id).into();
    own.run().fails_with("Permission denied");
    own.assert_nothing_left();
    own.0.config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    own.0.write_config();
    own.call(&["--rootless", "false", "run", &own.0.id]).fails_with("Permission denied");
    own.call(&["--rootless", "maybe", "run", &own.0.id]).fails_with("neither true, false nor auto");
    own.assert_nothing_left();
    own.call(&["--rootless", "true", "run", &own.0.id]).ok();
}

#[test]
fn root_ids_that_are_not_the_users_are_refused_and_leave_nothing() {
    let mut own = Own::new("true");
    let more = json!({"containerID": 1, "hostID": MORE, "size": 10});
    own.0.config["linux"]["uidMappings"].as_array_mut().unwrap().push(more.clone());
    own.0.config["linux"]["gidMappings"].as_array_mut().unwrap().push(more);
    own.run().fails_with("mapping ids of the user namespace: newgidmap");
    own.assert_nothing_left();
}

#[test]
fn root_more_ids_are_mapped_by_newuidmap() {
    let mut own = Own::new("cat /proc/self/uid_map; cat /proc/self/setgroups; id -u; id -G");
    let more = json!({"containerID": 1, "hostID": MORE, "size": 10});
    own.0.config["linux"]["uidMappings"].as_array_mut().unwrap().push(more.clone());
    own.0.config["linux"]["gidMappings"].as_array_mut().unwrap().push(more);
    own.0.config["process"]["user"] = json!({"uid": 5, "gid": 6, "additionalGids": [7]});
    own.0.write_config();
    let dir = own.0.path();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    std::fs::write(dir.join("passwd"), format!("{passwd}tester:x:{NOBODYS}:{NOBODYS}::/:/bin/sh\n")).unwrap();
    std::fs::write(dir.join("subid"), format!("tester:{MORE}:10\n")).unwrap();
    // in a mount namespace where the user is known
    let script = "mount --bind passwd /etc/passwd; mount --bind subid /etc/subuid; mount --bind subid /etc/subgid; \
                  exec setpriv --reuid \"$1\" --regid \"$1\" --clear-groups ./runw run \"$2\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"])
        .args([&NOBODYS.to_string(), &own.0.id])
        .env("XDG_RUNTIME_DIR", dir.join("run"))
        .current_dir(dir)
        .output()
        .unwrap();
    let out = Ended::from(output).ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    let (user, more) = (NOBODYS.to_string(), MORE.to_string());
    assert_eq!(words, ["0", &user, "1", "1", &more, "10", "allow", "5", "6", "7"]);
    own.assert_nothing_left();
}

/// As under rootless podman, which makes the user namespace itself.
#[test]
fn root_the_root_of_a_user_namespace_runs_a_container() {
    let mut own = Own::new("id -u; echo x > /dev/null; cat /proc/self/oom_score_adj");
    let list = own.0.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|ns| ns["type"] != "user");
    own.0.config["linux"].as_object_mut().unwrap().remove("uidMappings");
    own.0.config["linux"].as_object_mut().unwrap().remove("gidMappings");
    own.0.config["process"]["oomScoreAdj"] = 500.into();
    own.0.write_config();
    let script = "exec ./runw run \"$1\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh", &own.0.id])
        .env("XDG_RUNTIME_DIR", own.0.path().join("run"))
        .env_remove("USER")
        .uid(NOBODYS)
        .gid(NOBODYS)
        .current_dir(own.0.path())
        .output()
        .unwrap();
    assert_eq!(Ended::from(output).ok(), "0\n500\n");
    own.assert_nothing_left();
}

#[test]
fn root_an_ordinary_user_shifts_clocks() {
    let mut own = Own::new("cat /proc/self/timens_offsets; read up rest < /proc/uptime; echo ${up%.*}");
    own.0.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    own.0.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 7}});
    let out = own.run().ok();
    let lines: Vec<Vec<&str>> = out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[..2], [vec!["monotonic", "7", "0"], vec!["boottime", "1000000", "0"]]);
    assert!(lines[2][0].parse::<u64>().unwrap() >= 1_000_000, "{out}");
    own.assert_nothing_left();
}

/// On version 1 single controllers can be an ordinary user's.
#[test]
fn root_an_ordinary_user_has_the_controllers_that_it_was_given() {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return; // version 2 delegates a whole subtree: see the tests of systemd_user
    }
    let mut own = Own::new("cat /proc/self/cgroup");
    let given = std::path::PathBuf::from(format!("/sys/fs/cgroup/pids/runw-test-given-{}", own.0.id));
    std::fs::create_dir(&given).unwrap();
    for path in [given.clone(), given.join("cgroup.procs"), given.join("tasks")] {
        chown(path, Some(NOBODYS), Some(NOBODYS)).unwrap();
    }
    own.0.config["linux"]["resources"] = json!({"pids": {"limit": 50}});
    own.0.write_config();
    let run = |own: &Own| -> Ended {
        // the shell moves itself, then becomes runw as the user
        let enter = given.join("cgroup.procs");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo $$ > {} && exec \"$@\"", enter.display()), "sh"]);
        command.arg(own.0.path().join("runw")).args(["run", &own.0.id]);
        command.uid(NOBODYS).gid(NOBODYS).current_dir(own.0.path()).stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", own.0.path().join("run"));
        command.output().unwrap().into()
    };
    let ended = run(&own);
    own.0.config["linux"]["resources"] = json!({"memory": {"limit": 1 << 20}});
    own.0.write_config();
    let refused = run(&own);
    wait_until("the cgroup to be empty", || std::fs::remove_dir(&given).is_ok());
    let out = ended.ok();
    assert!(
        out.lines().any(|l| l.contains(&format!(":pids:/runw-test-given-{}/{}", own.0.id, own.0.id))),
        "{out}"
    );
    assert!(!out.lines().any(|l| l.contains(":memory:") && l.contains(&own.0.id)), "{out}");
    refused.fails_with("cannot set memory limit: container could not join or create cgroup");
    own.assert_nothing_left();
}
