//! The shim as a program: `start`, `delete`, `-v`, `-info`.
//!
//! All shims take flags and environment. What `start` reads from stdin changed with containerd 2.3: before, the
//! runtime options as an `Any`; since, `containerd.runtime.bootstrap.v1.BootstrapParams`. Each rejects the other's
//! form, so the shim is asked for its version once ([`dialect`](Dialect)).

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;
use wharf_containerd::containerd::runtime::bootstrap::v1::{BootstrapParams, Extension, LogLevel};
use wharf_containerd::containerd::task::v3::DeleteResponse;
use wharf_containerd::containerd::types::RuntimeInfo;
use wharf_kinds::Kind;

use crate::bundle::Bundle;
use crate::endpoint::{Endpoint, EndpointError};
use crate::limits;
use crate::process::Exit;

/// A shim's output beyond this is cut off, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;
/// How long a pipe may stay open after its program has ended: a daemon that kept it must not hold us up.
const DRAIN: Duration = Duration::from_millis(200);
/// The first containerd whose shims read `BootstrapParams`.
const PARAMS_SINCE: (u64, u64) = (2, 3);

/// Why running a shim's program failed.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("run {program}: {source}")]
    Spawn { program: PathBuf, source: io::Error },
    #[error("{stderr}: {status}")]
    Failed { status: ExitStatus, stderr: String },
    #[error("{program} did not finish within {limit:?}: context deadline exceeded")]
    TimedOut { program: PathBuf, limit: Duration },
    #[error("{program}: {source}")]
    Endpoint { program: PathBuf, source: EndpointError },
    #[error("{program}: malformed answer: {source}")]
    Answer { program: PathBuf, source: prost::DecodeError },
}

impl BootstrapError {
    pub fn kind(&self) -> Kind {
        match self {
            BootstrapError::Spawn { source, .. } => Kind::of_io(source),
            BootstrapError::TimedOut { .. } => Kind::DeadlineExceeded,
            BootstrapError::Endpoint {
                source: EndpointError::Version(_) | EndpointError::Protocol(_) | EndpointError::GrpcVersion(_),
                ..
            } => Kind::Unimplemented,
            _ => Kind::Unknown,
        }
    }
}

/// What a shim's `start` reads from stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Params,
    Options,
}

/// What shims are told about this daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// The gRPC socket's path.
    pub address: String,
    /// The ttrpc socket's path, where events go.
    pub ttrpc_address: String,
    /// Where our own shims put their sockets.
    pub socket_dir: PathBuf,
    pub debug: bool,
    /// This daemon's version, for shims that ask.
    pub version: String,
}

/// Runs shims' programs.
#[derive(Debug)]
pub struct Launcher {
    daemon: Daemon,
    itself: PathBuf,
    /// By program, with what tells whether it was replaced: device, inode, modification time.
    dialects: Mutex<HashMap<PathBuf, ((u64, u64, i64), Dialect)>>,
}

impl Launcher {
    pub fn new(daemon: Daemon) -> Self {
        let itself = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        Launcher { daemon, itself, dialects: Mutex::default() }
    }

    /// Starts the bundle's shim, or finds the one that already serves it, and returns where it listens.
    pub async fn start(
        &self,
        program: &Path,
        bundle: &Bundle,
        options: Option<&Any>,
    ) -> Result<Endpoint, BootstrapError> {
        let stdin = match self.dialect(program).await? {
            Dialect::Params => self.params(bundle, options).encode_to_vec(),
            Dialect::Options => options.map(Any::encode_to_vec).unwrap_or_default(),
        };
        let mut command = self.command(program, bundle, "start");
        if !bundle.path.as_os_str().is_empty() {
            command.current_dir(&bundle.path);
        }
        let answer = run(command, program, &stdin, limits::BOOTSTRAP).await?;
        Endpoint::parse(&answer)
            .map_err(|source| BootstrapError::Endpoint { program: program.into(), source })
    }

    /// Has a new process of the shim's program clean up after a shim that is gone, and learns the exit.
    pub async fn delete(&self, program: &Path, bundle: &Bundle) -> Result<Exit, BootstrapError> {
        let mut command = self.command(program, bundle, "delete");
        command.current_dir(&bundle.path);
        let answer = run(command, program, &[], limits::CLEAN_UP).await?;
        let answer = DeleteResponse::decode(answer.as_slice())
            .map_err(|source| BootstrapError::Answer { program: program.into(), source })?;
        Ok(Exit { pid: answer.pid, status: answer.exit_status, at: answer.exited_at })
    }

    /// Asks a shim about itself and its OCI runtime.
    pub async fn info(&self, program: &Path, options: Option<&Any>) -> Result<RuntimeInfo, BootstrapError> {
        let mut command = Command::new(program);
        command.arg("-info");
        let stdin = options.map(Any::encode_to_vec).unwrap_or_default();
        let answer = run(command, program, &stdin, limits::ASK).await?;
        RuntimeInfo::decode(answer.as_slice())
            .map_err(|source| BootstrapError::Answer { program: program.into(), source })
    }

    fn params(&self, bundle: &Bundle, options: Option<&Any>) -> BootstrapParams {
        let level = if self.daemon.debug { LogLevel::Debug } else { LogLevel::Info };
        BootstrapParams {
            instance_id: bundle.id.clone(),
            namespace: bundle.namespace.clone(),
            log_level: level.into(),
            containerd_version: self.daemon.version.clone(),
            containerd_ttrpc_address: self.daemon.ttrpc_address.clone(),
            containerd_grpc_address: self.daemon.address.clone(),
            containerd_binary: self.itself.to_string_lossy().into_owned(),
            extensions: options.map(|any| Extension { value: Some(any.clone()) }).into_iter().collect(),
            socket_dir: Some(self.daemon.socket_dir.to_string_lossy().into_owned()),
        }
    }

    fn command(&self, program: &Path, bundle: &Bundle, action: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-namespace", &bundle.namespace, "-address", &self.daemon.address]);
        command.arg("-publish-binary").arg(&self.itself).args(["-id", &bundle.id]);
        if action == "delete" {
            command.arg("-bundle").arg(&bundle.path);
        }
        if self.daemon.debug {
            command.arg("-debug");
        }
        command
            .arg(action)
            .env("TTRPC_ADDRESS", &self.daemon.ttrpc_address)
            .env("GRPC_ADDRESS", &self.daemon.address)
            .env("NAMESPACE", &bundle.namespace)
            .env("MAX_SHIM_VERSION", "3")
            .env("GOMAXPROCS", "2")
            .env_remove("NOTIFY_SOCKET")
            // signals meant for the daemon's group are not meant for workloads
            .process_group(0);
        command
    }

    /// Which of the two stdin forms the program takes.
    async fn dialect(&self, program: &Path) -> Result<Dialect, BootstrapError> {
        let spawn = |source| BootstrapError::Spawn { program: program.into(), source };
        let meta = std::fs::metadata(program).map_err(spawn)?;
        let stamp = (meta.dev(), meta.ino(), meta.mtime());
        let known = self.dialects.lock().unwrap_or_else(PoisonError::into_inner).get(program).copied();
        if let Some((known, dialect)) = known
            && known == stamp
        {
            return Ok(dialect);
        }
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let dialect = if name.starts_with("containerd-shim-wharf-") {
            Dialect::Params
        } else {
            let mut command = Command::new(program);
            command.arg("-v");
            // a shim that cannot say its version is an old one
            let answer = run(command, program, &[], limits::ASK).await.unwrap_or_default();
            match version(&String::from_utf8_lossy(&answer)) {
                Some(version) if version >= PARAMS_SINCE => Dialect::Params,
                _ => Dialect::Options,
            }
        };
        let mut dialects = self.dialects.lock().unwrap_or_else(PoisonError::into_inner);
        dialects.insert(program.into(), (stamp, dialect));
        Ok(dialect)
    }
}

/// Major and minor out of the line `  Version:  1.6.20~ds1` that `-v` prints.
fn version(answer: &str) -> Option<(u64, u64)> {
    let line = answer.lines().find_map(|line| line.trim().strip_prefix("Version:"))?;
    let mut numbers = line.trim().trim_start_matches('v').split('.').map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part[..digits].parse().ok()
    });
    Some((numbers.next()??, numbers.next()??))
}

/// Runs a program to its end and returns its stdout.
async fn run(
    mut command: Command,
    program: &Path,
    stdin: &[u8],
    limit: Duration,
) -> Result<Vec<u8>, BootstrapError> {
    let spawn = |source| BootstrapError::Spawn { program: program.into(), source };
    command.stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(spawn)?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut input) = input {
            // a shim need not read what it is told
            let _ = input.write_all(stdin).await;
        }
    };
    let work = async {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = {
            let reading = async { tokio::join!(collect(output, &mut out), collect(errors, &mut err)) };
            tokio::pin!(reading);
            let (_, status) = tokio::join!(feed, async {
                tokio::select! {
                    status = child.wait() => {
                        let _ = timeout(DRAIN, &mut reading).await;
                        status
                    }
                    _ = &mut reading => child.wait().await,
                }
            });
            status
        };
        (status, out, err)
    };
    let Ok((status, out, err)) = timeout(limit, work).await else {
        return Err(BootstrapError::TimedOut { program: program.into(), limit });
    };
    let status = status.map_err(spawn)?;
    if !status.success() {
        // containerd shows both; shims say what went wrong on either
        let said = [err, out].concat();
        let stderr = String::from_utf8_lossy(&said).trim().to_owned();
        return Err(BootstrapError::Failed { status, stderr });
    }
    if !err.is_empty() {
        tracing::warn!(program = %program.display(), stderr = %String::from_utf8_lossy(&err).trim(), "shim warns");
    }
    Ok(out)
}

async fn collect(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    if let Some(pipe) = pipe {
        // what could be read is what there is
        let _ = pipe.take(MAX_OUTPUT).read_to_end(into).await;
    }
}

#[cfg(test)]
#[path = "bootstrap/tests.rs"]
mod tests;
