//! Peers with all their state below one temporary folder and one cgroup, in a mount namespace of their own.

mod containerd;
mod docker;
mod podman;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
pub use wharf_integration_tests::SOON;
use wharf_integration_tests::{eventually, image, leaks, program};

/// The folder, the cgroup and the daemons of one test; all of it ends with it.
struct Ground {
    dir: TempDir,
    /// The cgroup's name, at the top of each hierarchy.
    name: String,
    daemons: Vec<Child>,
}

impl Ground {
    fn new() -> Ground {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
        let dir = tempfile::Builder::new().prefix("wi").rand_bytes(6).tempdir().expect("a temporary folder");
        // pids repeat in isolated runs side by side; cgroups are the machine's
        let name = format!("wharf-test-{}", dir.path().file_name().expect("a name").to_string_lossy());
        Ground { dir, name, daemons: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path as text, for arguments.
    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("utf-8").to_owned()
    }

    fn image(&self) -> String {
        let archive = self.path("busybox.tar");
        image::busybox(&archive, "busybox:latest").expect("an image archive");
        archive.to_str().expect("utf-8").to_owned()
    }

    /// Starts a daemon with its output in `<name>.log`.
    fn spawn(&mut self, name: &str, command: &mut Command) -> u32 {
        let log = File::create(self.path(&format!("{name}.log"))).expect("a log file");
        let error = log.try_clone().expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(error).spawn();
        let child = child.unwrap_or_else(|e| panic!("{name} cannot be started: {e}"));
        let pid = child.id();
        self.daemons.push(child);
        pid
    }

    fn logs(&self) -> String {
        let mut out = String::new();
        for entry in fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "log") {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(25).collect();
                out.push_str(&format!("--- {}\n", entry.path().display()));
                for line in tail.into_iter().rev() {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        out
    }

    /// The output of a command that must succeed.
    fn ok(&self, command: &mut Command) -> String {
        let output = command.stdin(Stdio::null()).output().expect("the program is installed");
        assert!(output.status.success(), "{command:?}: {}\n{}{}", output.status, both(&output), self.logs());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts containerd with `config` in a mount namespace of its own; its pid.
    fn containerd(&mut self) -> u32 {
        let config = self.path("containerd.toml");
        // without CRI, which would want networks and streaming ports of the host
        fs::write(&config, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")
            .expect("a config file");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "containerd", "--config"]).arg(config);
        command.args([
            "--root",
            &self.text("lib"),
            "--state",
            &self.text("run"),
            "--address",
            &self.text("c.sock"),
        ]);
        let pid = self.spawn("containerd", &mut command);
        eventually("containerd serves", SOON, || {
            let version = self.ctr(&["version"]).output().expect("ctr is installed");
            version.status.success().then_some(())
        });
        pid
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .args(["--address", &self.text("c.sock"), "-n", &self.name])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Cgroups of this test that still exist, but for its own top directory.
    fn left_cgroups(&self) -> Vec<PathBuf> {
        leaks::cgroups_named(&self.name).into_iter().filter(|p| !p.ends_with(&self.name)).collect()
    }

    /// Fails if a container left a cgroup, or runw a state folder below `root`.
    fn nothing_left(&self, root: &Path) {
        assert_eq!(self.left_cgroups(), Vec::<PathBuf>::new());
        let states: Vec<_> = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(states.is_empty(), "{states:?}");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for mut daemon in self.daemons.drain(..).rev() {
            let pid = Pid::from_child(&daemon);
            let _ = kill_process(pid, Signal::TERM);
            let ended = std::time::Instant::now() + SOON;
            while matches!(daemon.try_wait(), Ok(None)) && std::time::Instant::now() < ended {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // shims and monitors name this folder; containers are found by their cgroup
        for cgroup in leaks::cgroups_named(&self.name) {
            let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            for pid in procs.lines().filter_map(|l| Pid::from_raw(l.parse().ok()?)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for (pid, _) in leaks::processes_of(self.dir.path()) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for mount in leaks::mounts_below(self.dir.path()).into_iter().rev() {
            let _ = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH);
        }
        let removed = std::time::Instant::now() + Duration::from_secs(5);
        while !leaks::cgroups_named(&self.name).is_empty() && std::time::Instant::now() < removed {
            for cgroup in leaks::cgroups_named(&self.name) {
                // where a controller is not mounted, conmon has made a folder with a file
                if fs::remove_dir(&cgroup).is_err() {
                    let _ = fs::remove_dir_all(&cgroup);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The state that `/proc/PID/cgroup` and the v1 freezer, or v2's events, show: whether `pid` stands still.
fn is_frozen(pid: u32) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    for line in table.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if controllers == "freezer" {
            let state = format!("/sys/fs/cgroup/freezer{path}/freezer.state");
            return fs::read_to_string(state).is_ok_and(|s| s.trim() == "FROZEN");
        }
    }
    let path = table.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/");
    let events = fs::read_to_string(format!("/sys/fs/cgroup{path}/cgroup.events"));
    events.is_ok_and(|e| e.lines().any(|l| l == "frozen 1"))
}

/// Paths that runw and its peers are given on command lines.
fn runw() -> String {
    program("runw").to_str().expect("utf-8").to_owned()
}
