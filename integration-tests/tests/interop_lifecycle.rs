//! wharf-lifecycled driven by Debian's `ctr`, over Debian's shim with runc and over ours with runw.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use wharf_integration_tests::{SOON, eventually, image, program};

const IMAGE: &str = "docker.io/library/busybox:latest";
const RUNC: &str = "io.containerd.runc.v2";
const WHARF: &str = "io.containerd.wharf.v2";

/// A lifecycle daemon of its own, and `ctr` for it.
struct Lifecycle {
    dir: TempDir,
    namespace: String,
    runtime: &'static str,
    daemon: Option<Child>,
}

impl Lifecycle {
    /// Starts a daemon with the busybox image in a namespace of its own.
    fn start(runtime: &'static str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
        let dir = tempfile::Builder::new().prefix("wl").rand_bytes(6).tempdir().expect("a temporary folder");
        // pids repeat in isolated runs side by side; cgroups are the machine's
        let namespace = format!("wharf-test-{}", dir.path().file_name().expect("a name").to_string_lossy());
        let mut stack = Lifecycle { dir, namespace, runtime, daemon: None };
        stack.start_daemon();
        let archive = stack.dir.path().join("busybox.tar");
        image::busybox(&archive, "busybox:latest").expect("an image archive");
        stack.ok(&["images", "import", archive.to_str().expect("utf-8")]);
        stack
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("d.sock")
    }

    /// A daemon on this stack's folders that serves at `socket`.
    fn command(&self, socket: &Path) -> Command {
        let mut command = Command::new(program("wharf-lifecycled"));
        command.arg("--root").arg(self.dir.path().join("lib"));
        command.arg("--state").arg(self.dir.path().join("run"));
        command.arg("--address").arg(socket);
        command
    }

    fn start_daemon(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let daemon =
            self.command(&self.socket()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.daemon = Some(daemon.expect("the daemon starts"));
        eventually("the daemon serves", SOON, || {
            // the socket answers before the tasks are found again; requests then wait
            (UnixStream::connect(self.socket()).is_ok() && self.ctr(&["version"]).status.success())
                .then_some(())
        });
    }

    fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon");
        daemon.kill().expect("kill");
        daemon.wait().expect("reap");
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }

    fn ctr_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["-n", &self.namespace]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn ctr(&self, arguments: &[&str]) -> Output {
        self.ctr_command(arguments).output().expect("ctr is installed")
    }

    /// Runs ctr, which must succeed; its stdout.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.ctr(arguments);
        assert!(
            output.status.success(),
            "ctr {arguments:?}: {}\n{}{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            fs::read_to_string(self.log_path()).unwrap_or_default()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ctr run` with this stack's runtime and cgroup.
    fn run(&self, flags: &[&str], id: &str, process: &[&str]) -> Output {
        let cgroup = format!("/{}/{id}", self.namespace);
        let mut arguments = vec!["run", "--runtime", self.runtime, "--cgroup", &cgroup];
        arguments.extend(flags);
        arguments.extend([IMAGE, id]);
        arguments.extend(process);
        self.ctr(&arguments)
    }

    /// Starts a container that lives until it is killed and exits with 5 on SIGTERM; its pid.
    fn start_container(&self, id: &str) -> u32 {
        let output = self.run(&["-d"], id, &["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"]);
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            fs::read_to_string(self.log_path()).unwrap_or_default()
        );
        self.task(id).expect("a task").0
    }

    /// Pid and status as `ctr tasks ls` shows them.
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

    /// Deletes task and container; the task's exit status, which ctr warns of unless it is 0.
    fn delete(&self, id: &str) -> u32 {
        let output = self.ctr(&["tasks", "delete", id]);
        assert!(output.status.success(), "{output:?}");
        self.ok(&["containers", "rm", id]);
        let warning = String::from_utf8_lossy(&output.stderr).into_owned();
        let Some((_, rest)) = warning.split_once("exit with non-zero exit code ") else { return 0 };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("an exit code")
    }

    /// The shim that serves a container, by its command line.
    fn shim(&self, id: &str) -> Pid {
        let wanted = [self.namespace.as_bytes(), id.as_bytes()];
        eventually("the shim's process", SOON, || {
            let processes = fs::read_dir("/proc").expect("proc").flatten();
            processes.into_iter().find_map(|process| {
                let pid: i32 = process.file_name().to_str()?.parse().ok()?;
                let line = fs::read(process.path().join("cmdline")).ok()?;
                let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
                let shim = words[0].windows(16).any(|window| window == b"containerd-shim-");
                (shim && wanted.iter().all(|word| words.contains(word))).then(|| Pid::from_raw(pid))?
            })
        })
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            for id in self.ctr(&["containers", "ls", "-q"]).stdout.split(|byte| *byte == b'\n') {
                let id = String::from_utf8_lossy(id);
                if !id.is_empty() {
                    let _ = self.ctr(&["tasks", "delete", "-f", &id]);
                    let _ = self.ctr(&["containers", "rm", &id]);
                }
            }
            self.kill_daemon();
        }
        // Debian's shim keeps its state here, and the cgroup's parent is left by whoever made the children
        let _ = fs::remove_dir(Path::new("/run/containerd/runc").join(&self.namespace));
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&self.namespace));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.namespace));
    }
}

/// What ctr can do, end to end.
fn every_verb_works(runtime: &'static str) {
    let stack = Lifecycle::start(runtime);
    assert!(stack.ok(&["images", "ls", "-q"]).contains(IMAGE));
    assert!(stack.ok(&["content", "ls", "-q"]).lines().count() >= 3, "manifest, config and layer");
    stack.ok(&["leases", "ls"]);

    let hello = stack.run(&["--rm"], "hello", &["echo", "hello from", runtime]);
    assert_eq!(String::from_utf8_lossy(&hello.stdout), format!("hello from {runtime}\n"), "{hello:?}");
    for code in [0, 3, 127] {
        let exit = format!("exit {code}");
        assert_eq!(stack.run(&["--rm"], "code", &["sh", "-c", &exit]).status.code(), Some(code));
    }
    assert!(stack.ok(&["containers", "ls", "-q"]).is_empty(), "--rm removes");
    let wrong = stack.run(&["--rm"], "wrong", &["/no/such/program"]);
    assert!(!wrong.status.success());
    assert!(stack.task("wrong").is_none(), "a task that could not be made is not left behind");
    let bundle =
        stack.dir.path().join("run/io.containerd.runtime.v2.task").join(&stack.namespace).join("wrong");
    eventually("its bundle is gone", SOON, || (!bundle.exists()).then_some(()));

    let pid = stack.start_container("c1");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(stack.task("c1").expect("a task").1, "RUNNING");
    assert!(stack.ok(&["containers", "ls"]).contains(runtime));
    let has_snapshot =
        || stack.ok(&["snapshots", "ls"]).lines().any(|line| line.split_whitespace().next() == Some("c1"));
    assert!(has_snapshot());
    let again = stack.ctr(&["tasks", "start", "-d", "c1"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already exists"), "{again:?}");

    let exec = ["tasks", "exec", "--exec-id", "e1", "c1", "sh", "-c", "echo in $0; exit 4"];
    let exec = stack.ctr(&exec);
    assert_eq!((String::from_utf8_lossy(&exec.stdout).as_ref(), exec.status.code()), ("in sh\n", Some(4)));
    let pids = stack.ok(&["tasks", "ps", "c1"]);
    assert!(pids.lines().any(|line| line.split_whitespace().next() == Some(&pid.to_string())), "{pids}");
    assert!(stack.ok(&["tasks", "metrics", "c1"]).contains("memory."), "metrics have memory");
    stack.ok(&["tasks", "pause", "c1"]);
    assert_eq!(stack.task("c1").expect("a task").1, "PAUSED");
    stack.ok(&["tasks", "resume", "c1"]);
    assert_eq!(stack.task("c1").expect("a task").1, "RUNNING");
    let running = stack.ctr(&["tasks", "delete", "c1"]);
    assert!(!running.status.success(), "a running task cannot be deleted");
    stack.ok(&["tasks", "kill", "-s", "SIGTERM", "c1"]);
    stack.await_status("c1", "STOPPED");
    assert_eq!(stack.delete("c1"), 5);
    assert!(!has_snapshot());
    let gone = stack.ctr(&["tasks", "kill", "c1"]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("not found"), "{gone:?}");
}

#[test]
fn root_every_verb_of_ctr_works_on_debians_shim_and_runc() {
    every_verb_works(RUNC);
}

#[test]
fn root_every_verb_of_ctr_works_on_our_shim_and_runtime() {
    every_verb_works(WHARF);
}

/// Events arrive in order, filtered by the daemon.
fn events_tell_a_containers_life(runtime: &'static str) {
    let stack = Lifecycle::start(runtime);
    let mut listener = stack
        .ctr_command(&["events", "topic~=tasks"])
        .stdout(File::create(stack.dir.path().join("events")).expect("a file"))
        .spawn()
        .expect("ctr events");
    let heard = || fs::read_to_string(stack.dir.path().join("events")).unwrap_or_default();
    // the subscription is there once something is heard of a first container
    eventually("events are heard", SOON, || {
        stack.run(&["--rm"], "first", &["true"]);
        (!heard().is_empty()).then_some(())
    });
    assert_eq!(stack.run(&["--rm"], "second", &["sh", "-c", "exit 6"]).status.code(), Some(6));
    let of_second =
        || heard().lines().filter(|l| l.contains("\"second\"")).map(str::to_owned).collect::<Vec<_>>();
    eventually("the deletion is heard", SOON, || {
        of_second().iter().any(|line| line.contains("/tasks/delete")).then_some(())
    });
    let lines = of_second();
    let topics: Vec<_> =
        lines.iter().filter_map(|l| l.split(' ').find(|w| w.starts_with("/tasks/"))).collect();
    assert_eq!(topics, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"], "{lines:?}");
    assert!(lines[2].contains("\"exit_status\":6"), "{}", lines[2]);
    assert!(!heard().contains("/containers/"), "filtered out");
    listener.kill().expect("kill");
    listener.wait().expect("reap");
}

#[test]
fn root_events_tell_a_containers_life_on_debians_shim() {
    events_tell_a_containers_life(RUNC);
}

#[test]
fn root_events_tell_a_containers_life_on_our_shim() {
    events_tell_a_containers_life(WHARF);
}

/// `kill -9` of the daemon changes nothing for tasks, and what happened meanwhile is known afterwards.
fn tasks_survive_the_daemon(runtime: &'static str) {
    let mut stack = Lifecycle::start(runtime);
    let lives = stack.start_container("lives");
    let ends = stack.start_container("ends");
    let shot = stack.start_container("shot");
    stack.kill_daemon();
    kill_process(Pid::from_raw(ends.cast_signed()).expect("a pid"), Signal::TERM).expect("signal");
    kill_process(Pid::from_raw(shot.cast_signed()).expect("a pid"), Signal::KILL).expect("signal");
    for pid in [ends, shot] {
        eventually("the process ends", SOON, || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    }
    stack.start_daemon();
    stack.await_status("lives", "RUNNING");
    assert_eq!(stack.task("lives").expect("listed").0, lives);
    stack.await_status("ends", "STOPPED");
    let exec = stack.ctr(&["tasks", "exec", "--exec-id", "e", "lives", "echo", "still here"]);
    assert_eq!(String::from_utf8_lossy(&exec.stdout), "still here\n", "{exec:?}");
    assert_eq!(stack.delete("ends"), 5);
    assert_eq!(stack.delete("shot"), 137);
    stack.ok(&["tasks", "kill", "-s", "SIGTERM", "lives"]);
    stack.await_status("lives", "STOPPED");
    assert_eq!(stack.delete("lives"), 5);
}

#[test]
fn root_tasks_survive_the_daemon_on_debians_shim() {
    tasks_survive_the_daemon(RUNC);
}

#[test]
fn root_tasks_survive_the_daemon_on_our_shim() {
    tasks_survive_the_daemon(WHARF);
}

#[test]
fn root_sigterm_ends_the_daemon_at_once_and_no_task() {
    let mut stack = Lifecycle::start(WHARF);
    let pid = stack.start_container("c");
    let mut listener = stack.ctr_command(&["events"]).stdout(Stdio::null()).spawn().expect("ctr events");
    let mut daemon = stack.daemon.take().expect("a daemon");
    kill_process(Pid::from_raw(daemon.id().cast_signed()).expect("a pid"), Signal::TERM).expect("signal");
    let ended = eventually("the daemon ends", SOON, || daemon.try_wait().expect("reap"));
    assert!(ended.success(), "{ended}");
    eventually("the listener is told", SOON, || listener.try_wait().expect("wait").map(drop));
    stack.start_daemon();
    stack.await_status("c", "RUNNING");
    assert_eq!(stack.task("c").expect("listed").0, pid);
    stack.ok(&["tasks", "kill", "-s", "SIGKILL", "c"]);
    stack.await_status("c", "STOPPED");
}

/// A shim that dies takes its container along; the daemon cleans up, whether it saw it or not.
fn dead_shims_are_cleaned_up_after(runtime: &'static str) {
    let mut stack = Lifecycle::start(runtime);
    for seen in [true, false] {
        let pid = stack.start_container("c");
        let shim = stack.shim("c");
        if !seen {
            stack.kill_daemon();
        }
        kill_process(shim, Signal::KILL).expect("kill the shim");
        if !seen {
            stack.start_daemon();
        }
        stack.await_status("c", "STOPPED");
        eventually("the process is killed", SOON, || {
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
        assert_eq!(stack.delete("c"), 137, "as the shim's program found out");
    }
    let bundles = stack.dir.path().join("run/io.containerd.runtime.v2.task").join(&stack.namespace);
    // the answer to a deletion does not wait for it
    eventually("no bundle is left", SOON, || {
        fs::read_dir(&bundles).expect("a folder").next().is_none().then_some(())
    });
}

#[test]
fn root_dead_shims_are_cleaned_up_after_debian() {
    dead_shims_are_cleaned_up_after(RUNC);
}

#[test]
fn root_dead_shims_are_cleaned_up_after_ours() {
    dead_shims_are_cleaned_up_after(WHARF);
}

/// A stopped shim costs its own container the answers, and no other: that nothing of others waits for it is for
/// lifecycle's `root_a_stopped_shim_delays_nothing_of_others_nor_the_start`.
fn stuck_shim_costs_no_other_its_answers(runtime: &'static str) {
    let mut stack = Lifecycle::start(runtime);
    stack.start_container("stuck");
    stack.start_container("quick");
    let shim = stack.shim("stuck");
    kill_process(shim, Signal::STOP).expect("stop the shim");
    let refused = stack.ctr(&["tasks", "ps", "stuck"]);
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(stack.task("stuck").expect("listed").1, "UNKNOWN");
    assert_eq!(stack.task("quick").expect("listed").1, "RUNNING");
    stack.ok(&["tasks", "exec", "--exec-id", "e", "quick", "true"]);
    // nor does it hold up the daemon's start
    stack.kill_daemon();
    stack.start_daemon();
    stack.await_status("quick", "RUNNING");
    kill_process(shim, Signal::CONT).expect("continue the shim");
    stack.await_status("stuck", "RUNNING");
    stack.ok(&["tasks", "kill", "-s", "SIGKILL", "stuck"]);
    stack.await_status("stuck", "STOPPED");
}

#[test]
fn root_stuck_shim_of_debian_costs_no_other_its_answers() {
    stuck_shim_costs_no_other_its_answers(RUNC);
}

#[test]
fn root_stuck_shim_of_ours_costs_no_other_its_answers() {
    stuck_shim_costs_no_other_its_answers(WHARF);
}

#[test]
fn root_second_daemon_on_the_same_root_is_refused() {
    let stack = Lifecycle::start(RUNC);
    let second = stack.command(&stack.dir.path().join("other.sock")).output();
    let second = second.expect("the program runs");
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr);
    let pid = stack.daemon.as_ref().expect("a daemon").id().to_string();
    assert!(text.contains(&pid), "names who has it: {text}");
    stack.ok(&["version"]);
}

/// Debian's dockerd on a lifecycle daemon of ours in containerd's place.
struct Dockerd {
    daemon: Child,
    dir: PathBuf,
}

impl Dockerd {
    fn start(stack: &Lifecycle) -> Self {
        let dir = stack.dir.path().join("docker");
        fs::create_dir(&dir).expect("a folder");
        let log = File::create(dir.join("log")).expect("a log file");
        let mut command = Command::new("dockerd");
        command.arg("--containerd").arg(stack.socket());
        command.args(["--containerd-namespace", &stack.namespace, "--cgroup-parent", &stack.namespace]);
        command.args(["--containerd-plugins-namespace", &format!("{}-plugins", stack.namespace)]);
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("-H").arg(format!("unix://{}", dir.join("sock").display()));
        command.arg("--pidfile").arg(dir.join("pid"));
        command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        command.args(["--ip-forward=false", "--ip-masq=false"]);
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let dockerd = Dockerd { daemon: daemon.expect("dockerd is installed"), dir };
        eventually("dockerd serves", SOON, || dockerd.docker(&["info"]).status.success().then_some(()));
        dockerd
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.dir.join("sock").display())).args(arguments);
        command.stdin(Stdio::null()).output().expect("docker is installed")
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        assert!(output.status.success(), "docker {arguments:?}: {output:?}\n{}", log());
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = self.docker(&["rm", "-f", "c1"]);
        let pid = Pid::from_raw(self.daemon.id().cast_signed()).expect("a pid");
        // on request it unmounts what it mounted
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.daemon.wait();
    }
}

#[test]
fn root_dockerd_runs_on_our_daemon_and_through_its_death() {
    let mut stack = Lifecycle::start(RUNC);
    let dockerd = Dockerd::start(&stack);
    dockerd.ok(&["load", "-i", stack.dir.path().join("busybox.tar").to_str().expect("utf-8")]);
    assert_eq!(dockerd.ok(&["run", "--rm", "--network", "none", "busybox", "echo", "hello"]), "hello");
    let exit = dockerd.docker(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 7"]);
    assert_eq!(exit.status.code(), Some(7), "{exit:?}");
    let wait = "trap 'exit 5' TERM; while :; do sleep 0.05; done";
    dockerd.ok(&["run", "-d", "--network", "none", "--name", "c1", "busybox", "sh", "-c", wait]);
    assert_eq!(dockerd.ok(&["exec", "c1", "echo", "in"]), "in");
    assert!(dockerd.ok(&["top", "c1"]).contains("sleep 0.05"));
    dockerd.ok(&["pause", "c1"]);
    dockerd.ok(&["unpause", "c1"]);
    stack.kill_daemon();
    stack.start_daemon();
    eventually("dockerd is connected again", SOON, || {
        (dockerd.docker(&["exec", "c1", "echo", "in"]).stdout == b"in\n").then_some(())
    });
    dockerd.ok(&["stop", "c1"]);
    assert_eq!(dockerd.ok(&["inspect", "-f", "{{.State.ExitCode}}", "c1"]), "5");
    dockerd.ok(&["rm", "c1"]);
}
