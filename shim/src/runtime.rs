//! The OCI runtime's command line: runw, or any that takes runc's flags.

mod checkpoint;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use wharf_kinds::Kind;

pub use self::checkpoint::Checkpoint;
use crate::error::TaskError;
use crate::options::Options;
use crate::reaper::Reaper;

/// Creating may run hooks.
const LONG: Duration = Duration::from_secs(300);
/// The rest is short; deleting a created container may wait 10 s for its end.
const SHORT: Duration = Duration::from_secs(60);
/// Bytes of the runtime's log or stderr that an error is looked for in.
const MAX_LOG: u64 = 256 * 1024;

/// One container's runtime.
#[derive(Clone)]
pub struct Runtime {
    reaper: Arc<Reaper>,
    binary: PathBuf,
    root: PathBuf,
    bundle: PathBuf,
    /// The bundle is this process's working directory, as it is unless the container has joined another's shim.
    is_here: bool,
    systemd_cgroup: bool,
    flags: Vec<&'static str>,
}

/// The three descriptors a process gets; `None` is /dev/null.
#[derive(Debug, Default)]
pub struct ChildStdio {
    /// Its standard input.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: Option<OwnedFd>,
    /// Its standard error.
    pub stderr: Option<OwnedFd>,
}

/// How a created or exec'd process is made.
pub struct Launch<'a> {
    /// Where the runtime writes the pid.
    pub pid_file: &'a Path,
    /// Where it sends the terminal's master, for a terminal.
    pub console_socket: Option<&'a Path>,
    /// The process's descriptors, without a terminal.
    pub stdio: ChildStdio,
}

/// Why the runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It could not be run, or ran too long.
    #[error("{}: {source}", binary.display())]
    Run {
        /// The executable.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It said why.
    #[error("{0}")]
    Said(String),
    /// It did not say why.
    #[error("{} ended with status {status}: {stderr}", binary.display())]
    Status {
        /// The executable.
        binary: PathBuf,
        /// Its exit code, or 128 and the signal.
        status: u32,
        /// What it wrote to stderr.
        stderr: String,
    },
}

impl RuntimeError {
    /// As the answer to a request, in containerd's words: `OCI runtime create failed: …`.
    pub fn during(&self, act: &str) -> TaskError {
        TaskError::failed(format_args!("OCI runtime {act} failed: {self}"))
    }

    /// Whether the container is unknown to the runtime.
    pub fn is_absent(&self) -> bool {
        self.to_string().contains("does not exist")
    }

    /// As the answer to a signal, by the texts that runtimes give.
    pub fn of_kill(&self) -> TaskError {
        let text = self.to_string();
        let lower = text.to_lowercase();
        let finished = ["process already finished", "container not running", "no such process"];
        if finished.iter().any(|f| lower.contains(f)) {
            TaskError::new(Kind::NotFound, "process already finished")
        } else if self.is_absent() {
            TaskError::new(Kind::NotFound, "no such container")
        } else {
            TaskError::failed(format_args!("unknown error after kill: {text}"))
        }
    }
}

impl Runtime {
    /// The runtime of a container whose options these are; `root` as of [`Options::runtime_root`].
    pub fn new(reaper: Arc<Reaper>, options: &Options, root: PathBuf, bundle: PathBuf) -> Self {
        let mut flags = Vec::new();
        if options.no_pivot_root {
            flags.push("--no-pivot");
        }
        if options.no_new_keyring {
            flags.push("--no-new-keyring");
        }
        let (binary, systemd_cgroup) = (options.runtime(), options.systemd_cgroup);
        let is_here = std::env::current_dir().is_ok_and(|here| here == bundle);
        Runtime { reaper, binary, root, bundle, is_here, systemd_cgroup, flags }
    }

    /// `create`: the container's init waits for `start`.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn create(&self, id: &str, launch: Launch<'_>) -> Result<(), RuntimeError> {
        let mut command = self.command("create");
        command.arg("--bundle").arg(&self.bundle).args(&self.flags);
        self.launch(command, launch, id)
    }

    /// `exec --detach`, of the process described by the JSON in `process`.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn exec(&self, id: &str, process: &Path, launch: Launch<'_>) -> Result<(), RuntimeError> {
        let mut command = self.command("exec");
        command.arg("--process").arg(process).arg("--detach");
        self.launch(command, launch, id)
    }

    fn launch(&self, mut command: Command, launch: Launch<'_>, id: &str) -> Result<(), RuntimeError> {
        command.arg("--pid-file").arg(launch.pid_file);
        if let Some(socket) = launch.console_socket {
            command.arg("--console-socket").arg(socket);
        }
        let stdio = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        command.arg(id);
        command.stdin(stdio(launch.stdio.stdin));
        command.stdout(stdio(launch.stdio.stdout));
        command.stderr(stdio(launch.stdio.stderr));
        self.run(command, LONG, None)
    }

    /// `start`.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn start(&self, id: &str) -> Result<(), RuntimeError> {
        self.plain("start", &[], id, LONG)
    }

    /// `kill`; with `all`, every process of the container.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn kill(&self, id: &str, signal: u32, all: bool) -> Result<(), RuntimeError> {
        let mut command = self.command("kill");
        if all {
            command.arg("--all");
        }
        command.arg(id).arg(signal.to_string());
        self.captured(command, None, SHORT)
    }

    /// `delete`; forced, it kills first.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn delete(&self, id: &str, force: bool) -> Result<(), RuntimeError> {
        let flags: &[&str] = if force { &["--force"] } else { &[] };
        self.plain("delete", flags, id, SHORT)
    }

    /// `pause`.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        self.plain("pause", &[], id, SHORT)
    }

    /// `resume`.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn resume(&self, id: &str) -> Result<(), RuntimeError> {
        self.plain("resume", &[], id, SHORT)
    }

    /// `update`, with the JSON of `LinuxResources`.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn update(&self, id: &str, resources: &[u8]) -> Result<(), RuntimeError> {
        let mut command = self.command("update");
        command.arg("--resources=-").arg(id);
        self.captured(command, Some(resources), SHORT)
    }

    fn plain(&self, verb: &str, flags: &[&str], id: &str, timeout: Duration) -> Result<(), RuntimeError> {
        let mut command = self.command(verb);
        command.args(flags).arg(id);
        self.captured(command, None, timeout)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(&self.root).arg("--log").arg(self.log()).arg("--log-format").arg("json");
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        // with a folder to change to, std forks, which copies this process's page tables; without, it does not
        if !self.is_here {
            command.current_dir(&self.bundle);
        }
        // a signal to the daemon's process group is none for a runtime at work
        command.arg(verb).process_group(0);
        command
    }

    fn log(&self) -> PathBuf {
        self.bundle.join("log.json")
    }

    /// Runs a command whose own output matters only if it fails, with `input` on its stdin.
    fn captured(
        &self,
        mut command: Command,
        input: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<(), RuntimeError> {
        let failed = |source: io::Error| RuntimeError::Run { binary: self.binary.clone(), source };
        let output = unnamed_file("runtime-stderr").map_err(failed)?;
        let input = match input {
            Some(bytes) => {
                let mut file = unnamed_file("runtime-stdin").map_err(failed)?;
                file.write_all(bytes).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(failed)?;
                Stdio::from(file)
            }
            None => Stdio::null(),
        };
        command.stdin(input).stdout(Stdio::null());
        command.stderr(Stdio::from(output.try_clone().map_err(failed)?));
        self.run(command, timeout, Some(output))
    }

    fn run(
        &self,
        mut command: Command,
        timeout: Duration,
        stderr: Option<fs::File>,
    ) -> Result<(), RuntimeError> {
        // lines of former commands are not this one's
        let before = fs::metadata(self.log()).map_or(0, |m| m.len());
        let exit = self.reaper.run_command(&mut command, timeout);
        let exit = exit.map_err(|source| RuntimeError::Run { binary: self.binary.clone(), source })?;
        if exit.status == 0 {
            return Ok(());
        }
        if let Some(said) = last_error(&self.log(), before) {
            return Err(RuntimeError::Said(said));
        }
        let mut text = Vec::new();
        if let Some(mut file) = stderr {
            let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(MAX_LOG).read_to_end(&mut text));
        }
        let stderr = String::from_utf8_lossy(&text).trim().to_owned();
        Err(RuntimeError::Status { binary: self.binary.clone(), status: exit.status, stderr })
    }
}

fn unnamed_file(name: &str) -> io::Result<fs::File> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

/// The last error line of a runtime's JSON log after `offset`.
fn last_error(log: &Path, offset: u64) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        #[serde(default)]
        msg: String,
    }
    let mut file = fs::File::open(log).ok()?;
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut text = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut text).ok()?;
    let lines = text.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice::<Line>(l).ok());
    let said = lines.rev().find(|l| matches!(l.level.as_str(), "error" | "fatal"))?.msg;
    Some(said.trim().to_owned()).filter(|said| !said.is_empty())
}

/// Reads a pid file.
///
/// # Errors
/// If it is absent or holds no pid.
pub fn read_pid(path: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(path)?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0 && *pid <= i32::MAX as u32);
    pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no pid")))
}

/// Whether a name can be part of a file name in the bundle and an argument of the runtime.
pub fn is_plain_name(name: impl AsRef<OsStr>) -> bool {
    let bytes = name.as_ref().as_encoded_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    let starts = bytes.first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    starts && bytes.len() <= 128 && bytes.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_this_command_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log.json");
        let old = "{\"level\":\"error\",\"msg\":\"old\"}\n";
        let new = "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\" exec: \\\"x\\\" \"}\nnot json\n";
        fs::write(&log, format!("{old}{new}")).unwrap();
        assert_eq!(last_error(&log, old.len() as u64).as_deref(), Some("exec: \"x\""));
        assert_eq!(last_error(&log, (old.len() + new.len()) as u64), None);
    }

    #[test]
    fn kill_errors_have_the_texts_that_daemons_match() {
        for (said, kind, text) in [
            ("container not running", Kind::NotFound, "process already finished: not found"),
            ("os: process already finished", Kind::NotFound, "process already finished: not found"),
            ("container does not exist", Kind::NotFound, "no such container: not found"),
            ("boom", Kind::Unknown, "unknown error after kill: boom"),
        ] {
            let error = RuntimeError::Said(said.to_owned()).of_kill();
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
        }
    }

    #[test]
    fn names_that_could_leave_the_bundle_are_not_plain() {
        for name in ["", ".", "..", "a/b", "-x", "a b", ".hidden", &"a".repeat(129)] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        assert!(is_plain_name("redis_1.exec-2"));
    }

    #[test]
    fn a_pid_file_must_hold_a_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init.pid");
        for (text, pid) in [("12", Some(12)), ("12\n", Some(12)), ("0", None), ("-1", None), ("", None)] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_pid(&path).ok(), pid, "{text:?}");
        }
    }
}
