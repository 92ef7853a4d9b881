//! One isolated stack: both daemons on roots of their own.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait::{SOON, eventually};
use crate::{image, leaks, program};

/// Both daemons, and everything they make, below one temporary folder.
pub struct Stack {
    dir: TempDir,
    cgroup: String,
    lifecycled: Option<Child>,
    wharfd: Option<Child>,
    extra: Vec<String>,
}

impl Default for Stack {
    fn default() -> Self {
        Stack::start()
    }
}

impl Stack {
    /// Starts a stack and loads `busybox:latest` into it.
    ///
    /// # Panics
    /// Without root, or when a daemon does not come up; its log is in the message.
    pub fn start() -> Stack {
        let stack = Stack::start_bare(&[]);
        stack.load_busybox();
        stack
    }

    /// Starts a stack without images of its own, `wharfd` with more flags.
    pub fn start_bare(wharfd_flags: &[&str]) -> Stack {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new().prefix("wh").rand_bytes(6).tempdir().expect("a temporary folder");
        // pids repeat in isolated runs side by side; cgroups are the machine's
        let unique = dir.path().file_name().expect("a name").to_string_lossy().into_owned();
        let mut stack = Stack {
            cgroup: format!("wharf-test-{unique}-{number}"),
            dir,
            lifecycled: None,
            wharfd: None,
            extra: wharfd_flags.iter().map(|f| (*f).to_owned()).collect(),
        };
        stack.start_lifecycled();
        stack.start_wharfd();
        stack
    }

    /// Loads `busybox:latest`.
    pub fn load_busybox(&self) {
        let archive = image::busybox_archive(self.dir()).expect("an image archive");
        let out = self.wharf(&["load", "-q", "-i", archive.to_str().expect("utf-8")]);
        assert!(out.status.success(), "load: {}\n{}", text(&out), self.logs());
    }

    /// The folder everything is in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of wharfd's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("wharfd.sock")
    }

    /// The path of wharf-lifecycled's socket.
    pub fn lifecycle_socket(&self) -> PathBuf {
        self.dir().join("lifecycled.sock")
    }

    /// wharfd's address as `-H` takes it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The name of the cgroup that all containers are in.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Starts wharf-lifecycled and waits for its socket.
    pub fn start_lifecycled(&mut self) {
        self.spawn_lifecycled();
        let socket = self.lifecycle_socket();
        self.await_socket("wharf-lifecycled", &socket);
    }

    /// Starts wharf-lifecycled without waiting for it.
    pub fn spawn_lifecycled(&mut self) {
        let mut command = Command::new(program("wharf-lifecycled"));
        command
            .arg("--root")
            .arg(self.dir().join("lifecycle"))
            .arg("--state")
            .arg(self.dir().join("ls"))
            .arg("--address")
            .arg(self.lifecycle_socket());
        self.lifecycled = Some(self.spawn(command, "lifecycled.log"));
    }

    /// Starts wharfd and waits for its socket.
    pub fn start_wharfd(&mut self) {
        self.spawn_wharfd();
        let socket = self.socket();
        self.await_socket("wharfd", &socket);
    }

    /// Starts wharfd without waiting for it.
    pub fn spawn_wharfd(&mut self) {
        let mut command = Command::new(program("wharfd"));
        command
            .args(["-H", &self.host()])
            .arg("--data-root")
            .arg(self.dir().join("engine"))
            .arg("--exec-root")
            .arg(self.dir().join("es"))
            .arg("--containerd")
            .arg(self.lifecycle_socket())
            .arg("--pidfile")
            .arg(self.dir().join("wharfd.pid"))
            .arg("--config-file")
            .arg(self.dir().join("daemon.json"))
            .args(["--cgroup-parent", &format!("/{}", self.cgroup)])
            .args(&self.extra);
        self.wharfd = Some(self.spawn(command, "wharfd.log"));
    }

    fn spawn(&self, mut command: Command, log: &str) -> Child {
        let log = File::options().create(true).append(true).open(self.dir().join(log)).expect("a log file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("dup")).stderr(log);
        command.env_remove("NOTIFY_SOCKET");
        command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    fn await_socket(&self, name: &str, path: &Path) {
        let deadline = std::time::Instant::now() + SOON;
        while UnixStream::connect(path).is_err() {
            assert!(std::time::Instant::now() < deadline, "{name} does not answer:\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// `kill -9` of wharfd.
    pub fn kill_wharfd(&mut self) {
        kill_child(self.wharfd.take().expect("wharfd runs"));
    }

    /// `kill -9` of wharf-lifecycled.
    pub fn kill_lifecycled(&mut self) {
        kill_child(self.lifecycled.take().expect("wharf-lifecycled runs"));
    }

    /// The pids of the running daemons: wharfd, wharf-lifecycled.
    pub fn pids(&self) -> (Option<u32>, Option<u32>) {
        (self.wharfd.as_ref().map(Child::id), self.lifecycled.as_ref().map(Child::id))
    }

    /// The end of both daemons' logs.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for name in ["lifecycled.log", "wharfd.log"] {
            let log = fs::read_to_string(self.dir().join(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            all.push_str(&format!("--- {name}\n{tail}\n"));
        }
        all
    }

    /// Every line of both daemons' logs that mentions a word of 12 hexadecimal digits in `what`: the story of what leaked.
    pub fn story_of(&self, what: &[String]) -> String {
        let mut ids: Vec<&str> = what
            .iter()
            .flat_map(|line| line.split(|c: char| !c.is_ascii_hexdigit()))
            .filter(|word| word.len() >= 12)
            .map(|word| &word[..12])
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let mut story = String::new();
        for name in ["lifecycled.log", "wharfd.log"] {
            let log = fs::read_to_string(self.dir().join(name)).unwrap_or_default();
            for line in log.lines().filter(|line| ids.iter().any(|id| line.contains(id))) {
                story.push_str(&format!("{name}: {line}\n"));
            }
        }
        story
    }

    /// A `wharf` command against this stack, to be refined and run.
    pub fn wharf_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("wharf"));
        self.aim(&mut command, args);
        command
    }

    /// A command of the original docker CLI against this stack.
    pub fn docker_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        self.aim(&mut command, args);
        command
    }

    fn aim(&self, command: &mut Command, args: &[&str]) {
        command.args(["-H", &self.host()]).args(args).stdin(Stdio::null());
        command.env("HOME", self.dir()).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
    }

    /// Runs `wharf ARGS`.
    pub fn wharf(&self, args: &[&str]) -> Output {
        self.wharf_command(args).output().expect("wharf runs")
    }

    /// Runs `docker ARGS`.
    pub fn docker(&self, args: &[&str]) -> Output {
        self.docker_command(args).output().expect("docker runs")
    }

    /// Runs `wharf ARGS`, which must succeed, and gives its standard output without the last line end.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.wharf(args);
        assert!(out.status.success(), "wharf {args:?}: {}\n{}", text(&out), self.logs());
        String::from_utf8(out.stdout).expect("utf-8").trim_end_matches('\n').to_owned()
    }

    /// Removes every container, and then says what is left on the host that only containers need:
    /// shims, mounts, cgroups, sockets.
    pub fn leaks_after_removal(&self) -> Vec<String> {
        let ids = self.ok(&["ps", "-aq"]);
        if !ids.is_empty() {
            let mut args = vec!["rm", "-f"];
            args.extend(ids.lines());
            self.ok(&args);
        }
        let look = || {
            let mut left = Vec::new();
            let ours: Vec<i32> = [self.wharfd.as_ref(), self.lifecycled.as_ref()]
                .iter()
                .flatten()
                .map(|c| c.id() as i32)
                .collect();
            for (pid, line) in leaks::processes_of(self.dir()) {
                if !ours.contains(&pid) {
                    left.push(format!("process {pid}: {line}"));
                }
            }
            left.extend(leaks::mounts_below(self.dir()).iter().map(|m| format!("mount {}", m.display())));
            left.extend(
                leaks::cgroups_named(&self.cgroup)
                    .iter()
                    .filter(|c| c.file_name().is_some_and(|n| n.len() == 64))
                    .map(|c| format!("cgroup {}", c.display())),
            );
            left.extend(sockets_below(&self.dir().join("es")));
            left.extend(sockets_below(&self.dir().join("ls")));
            left
        };
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let left = look();
            if left.is_empty() || std::time::Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn sockets_below(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::FileTypeExt;
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(sockets_below(&entry.path()));
        } else if kind.is_socket() {
            found.push(format!("socket {}", entry.path().display()));
        }
    }
    found
}

/// Both outputs of a finished command and its status, for messages.
pub fn text(out: &Output) -> String {
    format!(
        "{}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

fn kill_child(mut child: Child) {
    child.kill().expect("kill -9");
    child.wait().expect("the killed daemon is reaped");
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for child in [self.wharfd.take(), self.lifecycled.take()].into_iter().flatten() {
            kill_child(child);
        }
        // shims first, then what their containers ran
        for (pid, _) in leaks::processes_of(self.dir.path()) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for cgroup in leaks::cgroups_named(&self.cgroup) {
            let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            for pid in procs.lines().filter_map(|p| p.parse().ok()).filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for mount in leaks::mounts_below(self.dir.path()).iter().rev() {
            let _ = unmount(mount, UnmountFlags::DETACH);
        }
        let name = self.cgroup.clone();
        if !std::thread::panicking() {
            eventually("the test's cgroups are removed", SOON, || {
                leaks::cgroups_named(&name).iter().for_each(|c| drop(fs::remove_dir(c)));
                leaks::cgroups_named(&name).is_empty().then_some(())
            });
        }
    }
}
