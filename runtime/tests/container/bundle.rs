//! A bundle with a busybox root filesystem in a directory of its own, and runw on a state root of its own.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const BUSYBOX: &str = "/bin/busybox";
const PROGRAMS: &[&str] = &[
    "sh", "cat", "echo", "ls", "true", "false", "sleep", "id", "readlink", "stat", "touch", "mkdir", "mount",
    "kill", "hostname", "tty", "stty", "grep", "env", "pwd", "chmod", "ip", "wc", "tr", "dd", "sync", "head",
];
pub const RUNW: &str = env!("CARGO_BIN_EXE_runw");
static NEXT: AtomicU32 = AtomicU32::new(0);

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Bundle {
    dir: tempfile::TempDir,
    pub id: String,
    pub config: Value,
}

pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }
    #[track_caller]
    pub fn fails_with(self, text: &str) -> Self {
        assert_ne!(self.code, 0, "succeeded; stdout: {}", self.out);
        // the log quotes messages that have quotes in them
        assert!(self.err.replace("\\\"", "\"").contains(text), "{text:?} is not in: {}", self.err);
        self
    }
}

impl From<Output> for Ended {
    fn from(o: Output) -> Self {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        Self { code: o.status.code().unwrap_or(-1), out: text(&o.stdout), err: text(&o.stderr) }
    }
}

impl Bundle {
    /// A container that runs `script` with sh.
    pub fn new(script: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        assert!(Path::new(BUSYBOX).exists(), "{BUSYBOX} is missing: install busybox-static");
        let dir = tempfile::Builder::new().prefix("runw-test-").tempdir().expect("a temporary directory");
        let rootfs = dir.path().join("rootfs");
        for d in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
            fs::create_dir_all(rootfs.join(d)).expect("a directory");
        }
        fs::copy(BUSYBOX, rootfs.join("bin/busybox")).expect("busybox");
        for program in PROGRAMS {
            symlink("busybox", rootfs.join("bin").join(program)).expect("a link");
        }
        // pids repeat in isolated runs side by side; cgroups are the machine's
        let unique = dir.path().file_name().expect("a name").to_string_lossy();
        let id = format!("t{}", unique.trim_start_matches("runw-test-"));
        let mut config: Value =
            serde_json::from_str(include_str!("../../src/cli/spec/config.json")).expect("a template");
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["root"]["readonly"] = false.into();
        config["linux"]["cgroupsPath"] = format!("/runw-test-{id}").into();
        Self { dir, id, config }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
    pub fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }
    pub fn state_root(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn write_config(&self) {
        fs::write(self.dir.path().join("config.json"), self.config.to_string()).expect("config.json");
    }

    /// runw with the global flags set.
    pub fn runw(&self) -> Command {
        self.program(Path::new(RUNW))
    }

    /// Another copy of runw, likewise.
    pub fn program(&self, runw: &Path) -> Command {
        let mut command = Command::new(runw);
        command.arg("--root").arg(self.state_root()).stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    /// A copy of a program, since one that another test runs would be busy. Written by a process of its own: a descriptor
    /// open for writing that another thread's child has for a moment would make it busy too.
    pub fn copy_of(&self, program: &Path) -> PathBuf {
        let copy = self.dir.path().join("runw");
        assert!(Command::new("cp").arg(program).arg(&copy).status().expect("cp runs").success());
        copy
    }

    /// Runs a runw command to its end. Output goes through files: a detached container holds pipes open.
    pub fn call(&self, args: &[&str]) -> Ended {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.dir.path().join(format!("out.{n}")), self.dir.path().join(format!("err.{n}")));
        let status = self
            .runw()
            .args(args)
            .stdout(fs::File::create(&out).expect("a file"))
            .stderr(fs::File::create(&err).expect("a file"))
            .status()
            .expect("runw runs");
        let read = |p: &Path| String::from_utf8_lossy(&fs::read(p).unwrap_or_default()).into_owned();
        Ended { code: status.code().unwrap_or(-1), out: read(&out), err: read(&err) }
    }

    /// `runw run` in the foreground.
    pub fn run(&self) -> Ended {
        self.write_config();
        self.runw().args(["run", &self.id]).output().expect("runw runs").into()
    }

    /// `runw run --detach`.
    pub fn run_detached(&self) {
        self.write_config();
        self.call(&["run", "--detach", &self.id]).ok();
    }

    pub fn exec(&self, command: &[&str]) -> Ended {
        let mut args = vec!["exec", &self.id];
        args.extend(command);
        self.runw().args(args).output().expect("runw runs").into()
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.call(&["state", &self.id]).ok()).expect("JSON")
    }

    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        wait_until(&format!("status {status}"), || self.state()["status"] == status);
    }

    /// All directories of this container's cgroup that exist.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let below = format!("runw-test-{}", self.id);
        let roots = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|e| e.path());
        roots
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .map(|r| r.join(&below))
            .filter(|p| p.exists())
            .collect()
    }

    /// Nothing of the container is left on the host.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.state_root()).map(|d| d.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "state left: {left:?}");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "cgroups left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let here = self.dir.path().to_string_lossy().into_owned();
        assert!(!mounts.contains(&here), "mounts left: {mounts}");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.id]);
    }
}

/// Gives a tree to another user and group, for the root of a user namespace.
pub fn give_to(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).expect("a change of owner");
    if fs::symlink_metadata(path).expect("metadata").is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            give_to(&entry.expect("an entry").path(), id);
        }
    }
}

/// Polls a condition with a deadline.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}
