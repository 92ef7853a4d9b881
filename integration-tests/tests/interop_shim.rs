//! containerd 1.6 with our shim and runw: runs, terminals, execs, signals, pauses, metrics, and containers
//! that live on while containerd is killed and comes back.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use wharf_integration_tests::leaks::{mounts_below, processes_of};
use wharf_integration_tests::pty::Terminal;
use wharf_integration_tests::{SOON, eventually, image, program};

const IMAGE: &str = "docker.io/library/busybox:latest";

/// A containerd of its own whose shims are ours.
struct Containerd {
    dir: TempDir,
    namespace: String,
    daemon: Option<Child>,
}

impl Containerd {
    fn start() -> Containerd {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
        let dir = tempfile::Builder::new().prefix("ws").rand_bytes(6).tempdir().expect("a temporary folder");
        // cgroups are named after the namespace
        let tail = dir.path().file_name().expect("a name").to_string_lossy().replace('.', "");
        let mut stack = Containerd { namespace: format!("wharf-test-{tail}"), dir, daemon: None };
        let path = |name: &str| stack.dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("c.sock"),
        );
        fs::write(stack.dir.path().join("config.toml"), config).expect("the config is written");
        stack.start_daemon();
        let archive = stack.dir.path().join("busybox.tar");
        image::busybox(&archive, "busybox:latest").expect("an image archive");
        stack.ok(&["images", "import", archive.to_str().expect("utf-8")]);
        stack
    }

    fn start_daemon(&mut self) {
        let shims = program("containerd-shim-wharf-v2");
        let shims = shims.parent().expect("a folder").display();
        let path = format!("{shims}:{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log"));
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(self.dir.path().join("config.toml"))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .process_group(0)
            .spawn()
            .expect("containerd is installed");
        self.daemon = Some(daemon);
        eventually("containerd answers", SOON, || self.run(&["version"]).status.success().then_some(()));
    }

    fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.kill().expect("it is killed");
        daemon.wait().expect("it is reaped");
    }

    fn ctr(&self) -> Command {
        let mut ctr = Command::new("timeout");
        ctr.args(["-k", "1", "60", "ctr", "--namespace", &self.namespace, "--address"]);
        ctr.arg(self.dir.path().join("c.sock"));
        ctr
    }

    fn run(&self, args: &[&str]) -> Output {
        self.ctr().args(args).stdin(Stdio::null()).output().expect("ctr runs")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "ctr {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn run_args<'a>(flags: &[&'a str], id: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--runtime", "io.containerd.wharf.v2"], flags, &[IMAGE, id], args].concat()
    }

    /// pid and status of a task.
    fn task(&self, id: &str) -> Option<(i32, String)> {
        let table = self.ok(&["tasks", "ls"]);
        let line = table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|l| l[0] == id)?;
        Some((line[1].parse().expect("a pid"), line[2].to_owned()))
    }

    fn assert_nothing_left(&self) {
        assert_eq!(self.ok(&["tasks", "ls", "-q"]), "");
        let tasks = self.dir.path().join("state/io.containerd.runtime.v2.task").join(&self.namespace);
        eventually("bundles are gone", SOON, || {
            fs::read_dir(&tasks).ok().is_none_or(|mut d| d.next().is_none()).then_some(())
        });
        eventually("shims are gone", SOON, || {
            let shims = processes_of(self.dir.path());
            (!shims.iter().any(|(_, line)| line.contains("containerd-shim-wharf"))).then_some(())
        });
        let rootfs = mounts_below(self.dir.path());
        assert!(rootfs.is_empty(), "mounts are left: {rootfs:?}");
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            for id in self.ok_or_empty(&["tasks", "ls", "-q"]).lines() {
                let _ = self.run(&["tasks", "rm", "-f", id]);
            }
            self.kill_daemon();
        }
        for (pid, _) in processes_of(self.dir.path()) {
            if let Some(pid) = Pid::from_raw(pid).filter(|p| *p != rustix::process::getpid()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for mount in mounts_below(self.dir.path()).iter().rev() {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&self.namespace));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.namespace));
    }
}

impl Containerd {
    fn ok_or_empty(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.run(args).stdout).into_owned()
    }
}

#[test]
fn root_containerd_runs_containers_with_our_shim() {
    let stack = Containerd::start();
    let hello = stack.run(&Containerd::run_args(&["--rm"], "hello", &["echo", "hello"]));
    assert_eq!((String::from_utf8_lossy(&hello.stdout).as_ref(), hello.status.code()), ("hello\n", Some(0)));
    let three = stack.run(&Containerd::run_args(&["--rm"], "three", &["sh", "-c", "echo bad >&2; exit 3"]));
    assert_eq!((String::from_utf8_lossy(&three.stderr).as_ref(), three.status.code()), ("bad\n", Some(3)));
    let none = stack.run(&Containerd::run_args(&["--rm"], "none", &["/no/such/program"]));
    let text = String::from_utf8_lossy(&none.stderr).to_lowercase();
    assert!(!none.status.success() && text.contains("no such file"), "{text}");
    let _ = stack.run(&["containers", "rm", "none"]);
    stack.assert_nothing_left();
}

#[test]
fn root_containerd_gives_a_terminal_through_our_shim() {
    let stack = Containerd::start();
    let mut command = stack.ctr();
    command.args(Containerd::run_args(
        &["--rm", "--tty"],
        "tty",
        &["sh", "-c", "read x; echo got-$x; exit 4"],
    ));
    let mut terminal = Terminal::start(&command);
    terminal.send("word\n");
    terminal.expect(0, "got-word");
    assert_eq!(terminal.exit_code(), 4);
    stack.assert_nothing_left();
}

#[test]
fn root_a_container_lives_on_while_containerd_is_killed_and_comes_back() {
    let mut stack = Containerd::start();
    stack.ok(&Containerd::run_args(&["--detach"], "long", &["sleep", "1000"]));
    let (pid, status) = stack.task("long").expect("a task");
    assert_eq!(status, "RUNNING");

    let exec = stack.run(&["tasks", "exec", "--exec-id", "one", "long", "sh", "-c", "echo in; exit 5"]);
    assert_eq!((String::from_utf8_lossy(&exec.stdout).as_ref(), exec.status.code()), ("in\n", Some(5)));
    assert!(stack.ok(&["tasks", "ps", "long"]).contains(&pid.to_string()));
    assert!(stack.ok(&["tasks", "metrics", "long"]).contains("memory"));
    stack.ok(&["tasks", "pause", "long"]);
    assert_eq!(stack.task("long"), Some((pid, "PAUSED".to_owned())));
    stack.ok(&["tasks", "resume", "long"]);

    stack.kill_daemon();
    stack.start_daemon();
    assert_eq!(stack.task("long"), Some((pid, "RUNNING".to_owned())));
    let exec = stack.run(&["tasks", "exec", "--exec-id", "two", "long", "echo", "again"]);
    assert_eq!(String::from_utf8_lossy(&exec.stdout), "again\n");

    // the end comes while containerd is away: it is told all the same
    stack.kill_daemon();
    let child = Pid::from_raw(pid).expect("a pid");
    kill_process(child, Signal::KILL).expect("it lived");
    stack.start_daemon();
    eventually("the end is known", SOON, || (stack.task("long")?.1 == "STOPPED").then_some(()));
    let deleted = stack.run(&["tasks", "rm", "long"]);
    let text = String::from_utf8_lossy(&deleted.stderr);
    assert!(text.contains("137"), "ctr tells a status other than 0: {text}");
    stack.ok(&["containers", "rm", "long"]);
    stack.assert_nothing_left();
}

#[test]
fn root_containerd_is_told_when_a_container_of_our_shim_runs_out_of_memory() {
    let stack = Containerd::start();
    let heard = stack.dir.path().join("heard");
    let mut events = stack.ctr();
    events.arg("events").stdin(Stdio::null()).stdout(fs::File::create(&heard).expect("a file"));
    let mut events = events.spawn().expect("ctr runs");
    // again and again: nobody can tell when ctr begins to listen
    let greedy = "while :; do sh -c 'x=0123456789abcdef; while :; do x=$x$x; done'; sleep 0.2; done";
    let flags = ["--detach", "--memory-limit", "16777216"];
    stack.ok(&Containerd::run_args(&flags, "greedy", &["sh", "-c", greedy]));
    eventually("the event", SOON, || {
        let text = fs::read_to_string(&heard).expect("what was heard");
        text.lines().any(|l| l.contains("/tasks/oom") && l.contains("greedy")).then_some(())
    });
    assert_eq!(stack.task("greedy").expect("a task").1, "RUNNING", "its first process was not killed");
    let timeout = Pid::from_child(&events);
    kill_process(timeout, Signal::TERM).expect("it runs");
    events.wait().expect("it is reaped");
    stack.ok(&["tasks", "rm", "-f", "greedy"]);
    stack.ok(&["containers", "rm", "greedy"]);
    stack.assert_nothing_left();
}
