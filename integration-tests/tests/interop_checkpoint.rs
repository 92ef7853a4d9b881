//! Debian's `ctr` saves running containers into images and restores them, through our shim and runw with real CRIU: with
//! containerd 1.6 and with our own daemon. CRIU has to know the kernel: `make test-vm` runs these, on Debian's.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use wharf_integration_tests::leaks::{cgroups_named, mounts_below, processes_of};
use wharf_integration_tests::{eventually, image, program};

const IMAGE: &str = "docker.io/library/busybox:latest";
const WHARF: &str = "io.containerd.wharf.v2";
const CHECKPOINT: &str = "example.com/checkpoint:one";
/// The machine is emulated.
const SOON: Duration = Duration::from_secs(120);
/// Counts, in memory, and says so in a file of memory's, with a word that only this process knows.
const COUNTER: &str = "read word </proc/sys/kernel/random/uuid; n=0; while :; do n=$((n+1)); \
    echo $word $n >/run/new; mv /run/new /run/now; sleep 0.1; done";

/// A daemon of its own, and `ctr` for it.
struct Stack {
    dir: TempDir,
    namespace: String,
    daemon: Child,
}

impl Stack {
    fn containerd() -> Self {
        Self::start(|dir, shims| {
            let config = format!(
                "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                [grpc]\naddress = {:?}\n",
                dir.join("root"),
                dir.join("state"),
                dir.join("d.sock"),
            );
            fs::write(dir.join("config.toml"), config).expect("the configuration");
            let mut command = Command::new("containerd");
            command.arg("--config").arg(dir.join("config.toml"));
            command.env("PATH", format!("{}:{}", shims.display(), std::env::var("PATH").expect("a path")));
            command
        })
    }

    fn ours() -> Self {
        Self::start(|dir, _| {
            let mut command = Command::new(program("wharf-lifecycled"));
            command.arg("--root").arg(dir.join("root")).arg("--state").arg(dir.join("state"));
            command.arg("--address").arg(dir.join("d.sock"));
            command
        })
    }

    fn start(command: impl FnOnce(PathBuf, PathBuf) -> Command) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test-vm`");
        let dir = tempfile::Builder::new().prefix("wk").rand_bytes(6).tempdir().expect("a temporary folder");
        // cgroups are named after the namespace
        let tail = dir.path().file_name().expect("a name").to_string_lossy().into_owned();
        let shims = program("containerd-shim-wharf-v2").parent().expect("a folder").to_owned();
        let log = File::create(dir.path().join("log")).expect("a log");
        let mut command = command(dir.path().to_owned(), shims);
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let stack = Stack {
            namespace: format!("wharf-test-{tail}"),
            dir,
            daemon: daemon.expect("the daemon is installed"),
        };
        eventually("the daemon answers", SOON, || stack.run(&["version"]).status.success().then_some(()));
        let archive = stack.dir.path().join("busybox.tar");
        image::busybox(&archive, "busybox:latest").expect("an image archive");
        stack.ok(&["images", "import", archive.to_str().expect("utf-8")]);
        stack
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut ctr = Command::new("timeout");
        ctr.args(["-k", "1", "240", "ctr", "--namespace", &self.namespace, "--address"]);
        ctr.arg(self.dir.path().join("d.sock")).args(args).stdin(Stdio::null());
        ctr.output().expect("ctr runs")
    }

    /// What ctr writes; the daemon's last words if it fails.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "ctr {args:?}: {text}{errors}\n{}", self.log());
        text
    }

    /// The end of the daemon's log, and of CRIU's.
    fn log(&self) -> String {
        let bundles = self.dir.path().join("state/io.containerd.runtime.v2.task").join(&self.namespace);
        let logs =
            fs::read_dir(bundles).into_iter().flatten().flatten().flat_map(|bundle| {
                ["criu-dump.log", "work/restore.log"].map(|name| bundle.path().join(name))
            });
        let mut text = String::new();
        for path in std::iter::once(self.dir.path().join("log")).chain(logs) {
            let Ok(log) = fs::read_to_string(&path) else { continue };
            let lines: Vec<&str> = log.lines().collect();
            text += &format!("{}:\n{}\n", path.display(), lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        text
    }

    /// A container in the background, as a user has it.
    #[track_caller]
    fn background(&self, id: &str, script: &str) {
        let cgroup = format!("/{}/{id}", self.namespace);
        let flags = ["run", "--detach", "--null-io", "--runtime", WHARF, "--cgroup", &cgroup];
        self.ok(&[&flags[..], &[IMAGE, id, "sh", "-c", script]].concat());
    }

    /// Pid and status.
    fn task(&self, id: &str) -> Option<(i32, String)> {
        let table = self.ok(&["tasks", "ls"]);
        let line = table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|l| l[0] == id)?;
        Some((line[1].parse().expect("a pid"), line[2].to_owned()))
    }

    /// What a counting container has come to, once that is beyond `beyond`: the word and the number.
    #[track_caller]
    fn counted(&self, id: &str, beyond: u64) -> (String, u64) {
        let (pid, _) = self.task(id).expect("a task");
        eventually(&format!("{id} counts on from {beyond}"), SOON, || {
            let text = fs::read_to_string(format!("/proc/{pid}/root/run/now")).ok()?;
            let (word, number) = text.trim().split_once(' ')?;
            let number = number.parse().ok().filter(|n| *n > beyond)?;
            Some((word.to_owned(), number))
        })
    }

    /// Kills and removes a container.
    #[track_caller]
    fn end(&self, id: &str) {
        self.ok(&["tasks", "kill", "--signal", "SIGKILL", id]);
        eventually("the end", SOON, || (self.task(id)?.1 == "STOPPED").then_some(()));
        self.ok(&["tasks", "delete", id]);
        self.ok(&["containers", "rm", id]);
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let listed = self.run(&["tasks", "ls", "-q"]);
        for id in String::from_utf8_lossy(&listed.stdout).lines() {
            let _ = self.run(&["tasks", "rm", "-f", id]);
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        for (pid, _) in processes_of(self.dir.path()) {
            if let Some(pid) = Pid::from_raw(pid).filter(|p| *p != rustix::process::getpid()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for mount in mounts_below(self.dir.path()).iter().rev() {
            let _ = unmount(mount, UnmountFlags::DETACH);
        }
        for cgroup in cgroups_named(&self.namespace) {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

/// A container goes on from a checkpoint in an image: the same process, by what it alone knows.
fn saves_and_restores(stack: &Stack) {
    stack.background("saved", COUNTER);
    let (word, before) = stack.counted("saved", 3);
    stack.ok(&["containers", "checkpoint", "--rw", "--image", "--task", "saved", CHECKPOINT]);
    assert_eq!(stack.task("saved").expect("a task").1, "RUNNING", "it goes on beside its checkpoint");
    assert_eq!(stack.counted("saved", before).0, word);
    stack.end("saved");

    stack.ok(&["containers", "restore", "--rw", "--live", "restored", CHECKPOINT]);
    assert_eq!(stack.task("restored").expect("a task").1, "RUNNING");
    let (known, first) = stack.counted("restored", before);
    assert_eq!(known, word, "the process that was saved");
    assert_eq!(stack.counted("restored", first).0, word, "it goes on");
    let exec = stack.ok(&["tasks", "exec", "--exec-id", "e", "restored", "cat", "/proc/1/comm"]);
    assert_eq!(exec, "sh\n");
    stack.end("restored");
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_containerd_saves_and_restores_a_container_of_our_shim() {
    saves_and_restores(&Stack::containerd());
}

#[test]
#[ignore = "needs a kernel that its CRIU knows: make test-vm"]
fn criu_our_daemon_saves_and_restores_a_container() {
    saves_and_restores(&Stack::ours());
}
