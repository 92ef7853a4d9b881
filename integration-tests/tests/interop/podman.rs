//! podman with `--runtime <runw>`.

use std::process::{Command, Output, Stdio};

use super::{Ground, SOON, both, is_frozen, runw};
use wharf_integration_tests::eventually;

struct Podman(Ground);

impl Podman {
    fn new() -> Podman {
        let podman = Podman(Ground::new());
        podman.ok(&["load", "-i", &podman.0.image()]);
        podman
    }

    fn podman(&self, arguments: &[&str]) -> Command {
        let g = &self.0;
        let mut command = Command::new("podman");
        command.args(["--root", &g.text("root"), "--runroot", &g.text("run"), "--tmpdir", &g.text("tmp")]);
        command.args(["--runtime", &runw(), "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"]);
        command.args(["--events-backend", "file"]).args(arguments).stdin(Stdio::null());
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.0.ok(&mut self.podman(arguments))
    }

    fn run(&self, flags: &[&str], process: &[&str]) -> Output {
        let parent = format!("/{}", self.0.name);
        let mut arguments = vec!["run", "--network", "none", "--cgroup-parent", &parent];
        // podman would raise these two, which needs a capability that a test machine may not have
        arguments.extend(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        arguments.extend(flags);
        arguments.push("busybox");
        arguments.extend(process);
        self.podman(&arguments).output().expect("podman is installed")
    }
}

#[test]
fn root_podman_runs_containers_with_runw() {
    let p = Podman::new();
    let hello = p.run(&["--rm"], &["echo", "hello"]);
    assert_eq!(both(&hello), "hello\n");
    for code in [0, 3] {
        let exit = format!("exit {code}");
        let output = p.run(&["--rm"], &["sh", "-c", &exit]);
        assert_eq!(output.status.code(), Some(code), "{}", both(&output));
    }
    assert_eq!(p.run(&["--rm"], &["/no/such/program"]).status.code(), Some(127));
    assert_eq!(p.run(&["--rm"], &["/etc"]).status.code(), Some(126));
    assert_eq!(p.ok(&["ps", "-aq"]), "");
}

#[test]
fn root_podman_execs_pauses_and_removes_with_runw() {
    let p = Podman::new();
    let output = p.run(&["-d", "--name", "bg"], &["sh", "-c", "echo out; while :; do sleep 0.05; done"]);
    assert!(output.status.success(), "{}", both(&output));
    eventually("the line is logged", SOON, || (p.ok(&["logs", "bg"]) == "out\n").then_some(()));
    assert_eq!(p.ok(&["exec", "bg", "cat", "/proc/1/comm"]), "sh\n");
    let failed = p.podman(&["exec", "bg", "sh", "-c", "exit 9"]).output().expect("podman");
    assert_eq!(failed.status.code(), Some(9), "{}", both(&failed));
    let pid: u32 = p.ok(&["inspect", "--format", "{{.State.Pid}}", "bg"]).trim().parse().expect("a pid");
    p.ok(&["pause", "bg"]);
    assert!(is_frozen(pid));
    p.ok(&["unpause", "bg"]);
    assert!(!is_frozen(pid));
    p.ok(&["rm", "-f", "-t", "0", "bg"]);
    assert_eq!(p.ok(&["ps", "-aq"]), "");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}
