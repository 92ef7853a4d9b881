//! containerd 1.6 and containerd-shim-runc-v2 with runw as their runtime.

use std::process::{Command, Output};

use super::{Ground, SOON, both, is_frozen, runw};
use wharf_integration_tests::eventually;

const IMAGE: &str = "docker.io/library/busybox:latest";

struct Containerd(Ground);

impl Containerd {
    fn start() -> Containerd {
        let mut ground = Ground::new();
        ground.containerd();
        let archive = ground.image();
        ground.ok(&mut ground.ctr(&["images", "import", &archive]));
        Containerd(ground)
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        self.0.ctr(arguments)
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.0.ok(&mut self.ctr(arguments))
    }

    fn run(&self, flags: &[&str], id: &str, process: &[&str]) -> Output {
        let (runw, root, cgroup) = (runw(), self.0.text("runw"), format!("/{}/{id}", self.0.name));
        let mut arguments = vec!["run", "--runtime", "io.containerd.runc.v2", "--runc-binary", &runw];
        arguments.extend(["--runc-root", &root, "--cgroup", &cgroup]);
        arguments.extend(flags);
        arguments.extend([IMAGE, id]);
        arguments.extend(process);
        self.ctr(&arguments).output().expect("ctr is installed")
    }

    /// What a process writes that runs to its end, which must be a good one. It comes through a file of the shim's,
    /// since ctr may give up its own FIFO before it has read from it when a container is over very soon.
    fn output(&self, flags: &[&str], id: &str, process: &[&str]) -> String {
        let uri = format!("file://{}", self.0.text(&format!("{id}.out")));
        let mut all = vec!["--rm", "--log-uri", &uri];
        all.extend(flags);
        let run = self.run(&all, id, process);
        assert!(run.status.success(), "{}{}", both(&run), self.0.logs());
        std::fs::read_to_string(self.0.path(&format!("{id}.out"))).expect("the shim's file")
    }

    fn task(&self, id: &str) -> Option<(u32, String)> {
        let table = self.ok(&["tasks", "ls"]);
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(id))?;
        let mut columns = line.split_whitespace().skip(1);
        Some((columns.next()?.parse().ok()?, columns.next()?.to_owned()))
    }

    fn await_status(&self, id: &str, status: &str) {
        eventually(&format!("{id} is {status}"), SOON, || {
            self.task(id).filter(|(_, now)| now == status).map(drop)
        });
    }

    /// A container in the background that runs until it is killed, and exits with 5 on SIGTERM; its pid.
    fn background(&self, id: &str, flags: &[&str]) -> u32 {
        let mut all = vec!["-d"];
        all.extend(flags);
        let output = self.run(&all, id, &["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"]);
        assert!(output.status.success(), "{}{}", both(&output), self.0.logs());
        self.task(id).expect("a task").0
    }
}

#[test]
fn root_containerd_runs_containers_with_runw() {
    let c = Containerd::start();
    assert_eq!(c.output(&[], "hello", &["echo", "hello"]), "hello\n");
    for code in [0, 3, 127] {
        let exit = format!("exit {code}");
        let output = c.run(&["--rm"], "code", &["sh", "-c", &exit]);
        assert_eq!(output.status.code(), Some(code), "{}", both(&output));
    }
    let missing = c.run(&["--rm"], "missing", &["/no/such/program"]);
    assert!(!missing.status.success());
    assert!(both(&missing).contains("/no/such/program"), "{}", both(&missing));
    c.0.nothing_left(&c.0.path("runw").join(&c.0.name));
}

#[test]
fn root_containerd_kills_and_execs_with_runw() {
    let c = Containerd::start();
    let pid = c.background("bg", &[]);
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the container runs");
    assert!(cgroup.lines().all(|l| l.ends_with(&format!("/{}/bg", c.0.name))), "{cgroup}");

    let seen = c.ok(&["tasks", "exec", "--exec-id", "e1", "bg", "sh", "-c", "echo in; cat /proc/1/comm"]);
    assert_eq!(seen, "in\nsh\n");
    let failed =
        c.ctr(&["tasks", "exec", "--exec-id", "e2", "bg", "sh", "-c", "exit 9"]).output().expect("ctr");
    assert_eq!(failed.status.code(), Some(9), "{}", both(&failed));
    assert!(c.ok(&["tasks", "ps", "bg"]).contains(&pid.to_string()));

    c.ok(&["tasks", "kill", "--signal", "SIGTERM", "bg"]);
    c.await_status("bg", "STOPPED");
    let deleted = c.ctr(&["tasks", "delete", "bg"]).output().expect("ctr");
    assert!(both(&deleted).contains("exit code 5"), "{}", both(&deleted));
    c.ok(&["containers", "rm", "bg"]);
    c.0.nothing_left(&c.0.path("runw").join(&c.0.name));
}

#[test]
fn root_containerd_pauses_and_resumes_with_runw() {
    let c = Containerd::start();
    let pid = c.background("bg", &[]);
    c.ok(&["tasks", "pause", "bg"]);
    c.await_status("bg", "PAUSED");
    assert!(is_frozen(pid));
    c.ok(&["tasks", "resume", "bg"]);
    c.await_status("bg", "RUNNING");
    assert!(!is_frozen(pid));
    c.ok(&["tasks", "delete", "--force", "bg"]);
    c.ok(&["containers", "rm", "bg"]);
    c.0.nothing_left(&c.0.path("runw").join(&c.0.name));
}

#[test]
fn root_containerd_limits_and_measures_containers_of_runw() {
    let c = Containerd::start();
    c.background("bg", &["--memory-limit", "33554432"]);
    let metrics = c.ok(&["tasks", "metrics", "--format", "json", "bg"]);
    let parsed: serde_json::Value = serde_json::from_str(&metrics).expect("JSON");
    let limit = &parsed["memory"]["usage"]["limit"];
    let limit = if limit.is_null() { &parsed["memory"]["usage_limit"] } else { limit };
    assert_eq!(limit.as_u64().or_else(|| limit.as_str()?.parse().ok()), Some(33_554_432), "{metrics}");
    c.ok(&["tasks", "delete", "--force", "bg"]);
    c.ok(&["containers", "rm", "bg"]);
}

#[test]
fn root_containerd_filters_calls_of_containers_of_runw() {
    let c = Containerd::start();
    let ask = ["grep", "^Seccomp:", "/proc/self/status"];
    assert_eq!(c.output(&["--seccomp"], "filtered", &ask), "Seccomp:\t2\n");
    assert_eq!(c.output(&[], "free", &ask), "Seccomp:\t0\n");
}
