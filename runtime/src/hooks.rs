//! Running hooks: host programs that are told of the container's state on their stdin.

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How much of a failed hook's output goes into the error.
const MAX_OUTPUT: u64 = 1024;

/// A hook that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("error running {kind} hook #{index}: {path}: {source}")]
    Start { kind: &'static str, index: usize, path: String, source: io::Error },
    #[error("error running {kind} hook #{index}: {path}: {status}, stdout: {stdout}, stderr: {stderr}")]
    Failed { kind: &'static str, index: usize, path: String, status: String, stdout: String, stderr: String },
    #[error("error running {kind} hook #{index}: {path}: hook ran past specified timeout of {seconds}.0s")]
    TimedOut { kind: &'static str, index: usize, path: String, seconds: i64 },
}

/// Runs the hooks one after another with `state` (JSON) on stdin; the first failure ends it.
pub fn run(kind: &'static str, hooks: Option<&Vec<Hook>>, state: &[u8]) -> Result<(), HookError> {
    run_with(kind, hooks, &[], state)
}

/// Likewise; a hook without an environment of its own gets `env`.
pub fn run_with(
    kind: &'static str,
    hooks: Option<&Vec<Hook>>,
    env: &[String],
    state: &[u8],
) -> Result<(), HookError> {
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        one(kind, index, hook, env, state)?;
    }
    Ok(())
}

fn one(kind: &'static str, index: usize, hook: &Hook, env: &[String], state: &[u8]) -> Result<(), HookError> {
    let path = hook.path().display().to_string();
    let failed = |source| HookError::Start { kind, index, path: path.clone(), source };
    // files in memory instead of pipes: a hook that does not read, or writes without end, cannot block the runtime
    let mut input = memory("hook-state").map_err(failed)?;
    input.write_all(state).and_then(|()| input.rewind()).map_err(failed)?;
    let stdout = memory("hook-stdout").map_err(failed)?;
    let stderr = memory("hook-stderr").map_err(failed)?;
    let out = stdout.try_clone().map_err(failed)?;
    let err = stderr.try_clone().map_err(failed)?;

    let mut command = Command::new(hook.path());
    command.env_clear().stdin(Stdio::from(input)).stdout(Stdio::from(out)).stderr(Stdio::from(err));
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some((first, rest)) = args.split_first() {
        std::os::unix::process::CommandExt::arg0(&mut command, first);
        command.args(rest);
    }
    for entry in hook.env().as_deref().filter(|own| !own.is_empty()).unwrap_or(env) {
        if let Some((name, value)) = entry.split_once('=').filter(|(n, _)| !n.is_empty()) {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().map_err(failed)?;
    if let Some(seconds) = hook.timeout()
        && !ends_within(child.id(), Duration::from_secs(seconds.unsigned_abs())).map_err(failed)?
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(HookError::TimedOut { kind, index, path, seconds });
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let status = how_it_ended(status);
    Err(HookError::Failed { kind, index, path, status, stdout: beginning(stdout), stderr: beginning(stderr) })
}

/// The beginning of what a hook has written.
fn beginning(mut file: File) -> String {
    let mut text = Vec::new();
    let _ = file.rewind().and_then(|()| file.take(MAX_OUTPUT).read_to_end(&mut text));
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// In runc's (that is Go's) words.
fn how_it_ended(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    let Some(signal) = status.signal() else {
        return format!("exit status {}", status.code().unwrap_or_default());
    };
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        _ => "",
    };
    let dumped = if status.core_dumped() { " (core dumped)" } else { "" };
    if name.is_empty() {
        format!("signal: signal {signal}{dumped}")
    } else {
        format!("signal: {name}{dumped}")
    }
}

fn memory(name: &str) -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn ends_within(pid: u32, limit: Duration) -> io::Result<bool> {
    let pid = Pid::from_raw(pid as i32).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(json: serde_json::Value) -> Vec<Hook> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_hook_gets_the_state_and_only_its_own_environment() {
        let list = hooks(serde_json::json!([
            {"path": "/bin/sh", "args": ["sh", "-c", "[ \"$(cat)\" = state ] && [ -z \"$HOME\" ] && [ \"$A\" = b ]"],
             "env": ["A=b"]}
        ]));
        run("poststop", Some(&list), b"state").unwrap();
    }

    #[test]
    fn a_failed_hook_is_named_with_its_output() {
        let list = hooks(
            serde_json::json!([{"path":"/bin/sh","args":["sh","-c","echo what; echo why >&2; exit 3"]}]),
        );
        let text = run("prestart", Some(&list), b"").unwrap_err().to_string();
        assert_eq!(text, "error running prestart hook #0: /bin/sh: exit status 3, stdout: what, stderr: why");
    }

    #[test]
    fn a_hook_that_a_signal_ended_is_told_by_its_name() {
        for (signal, text) in
            [("SYS", "signal: bad system call"), ("KILL", "signal: killed"), ("USR1", "signal: signal 10")]
        {
            let script = format!("ulimit -c 0; kill -{signal} $$");
            let list = hooks(serde_json::json!([{"path":"/bin/sh","args":["sh","-c",script]}]));
            let error = run("poststop", Some(&list), b"").unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_hook_past_its_timeout_is_killed() {
        let list = hooks(serde_json::json!([{"path":"/bin/sleep","args":["sleep","1000"],"timeout":1}]));
        let start = Instant::now();
        assert!(matches!(run("prestart", Some(&list), b""), Err(HookError::TimedOut { .. })));
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_hook_that_ignores_a_large_state_does_not_block() {
        let list = hooks(serde_json::json!([{"path":"/bin/true"}]));
        run("prestart", Some(&list), &vec![b'x'; 1 << 20]).unwrap();
    }
}
