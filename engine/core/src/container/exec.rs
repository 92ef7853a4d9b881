//! Execs: further processes in a running container.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use engine_backend::{ExecSpec, Exit, ProcessStatus};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use wharf_docker::container::{ExecCreate, ExecInspect, ExecProcess};
use wharf_docker::time::Time;
use wharf_kinds::Kind;

use super::attach::{self, AttachClient, Watch};
use super::phase::Phase;
use super::record::Record;
use crate::engine::Shared;
use crate::error::{EngineError, start_failure};
use crate::plan;

/// An exec's durable record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRecord {
    pub id: String,
    pub container_id: String,
    pub created: Time,
    pub request: ExecCreate,
    /// The bytes that detach a client.
    pub detach_keys: Vec<u8>,
    pub phase: ExecPhase,
}

/// Where an exec stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub enum ExecPhase {
    Created,
    /// Its start was asked for; recorded before anything is done.
    Starting,
    Running {
        pid: u32,
    },
    Exited {
        code: i64,
        pid: u32,
        at: Time,
    },
}

/// An exec in memory.
pub struct ExecCell {
    id: String,
    container_id: String,
    record: Mutex<ExecRecord>,
    /// Told when a start is over, a stream has ended, the exec has ended.
    changed: Notify,
    stream_over: AtomicBool,
    /// This daemon is starting it now.
    in_hand: AtomicBool,
}

/// How long an inspect waits to hear that the exec's stream has ended.
const GRACE: std::time::Duration = std::time::Duration::from_millis(150);
/// How long an inspect waits for the shim.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(2);

/// Execs that ended are forgotten after this time, when another is made.
const FORGET: std::time::Duration = std::time::Duration::from_secs(300);

impl ExecCell {
    pub(crate) fn new(record: ExecRecord) -> Self {
        Self {
            id: record.id.clone(),
            container_id: record.container_id.clone(),
            record: Mutex::new(record),
            changed: Notify::new(),
            stream_over: AtomicBool::new(false),
            in_hand: AtomicBool::new(false),
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    fn lock(&self) -> MutexGuard<'_, ExecRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the record.
    pub fn record(&self) -> ExecRecord {
        self.lock().clone()
    }

    pub fn is_running(&self) -> bool {
        matches!(self.lock().phase, ExecPhase::Starting | ExecPhase::Running { .. })
    }

    /// Whether it ended so long ago that it can be forgotten.
    pub(crate) fn is_stale(&self) -> bool {
        let ExecPhase::Exited { at, .. } = self.lock().phase else { return false };
        SystemTime::from(at).elapsed().is_ok_and(|age| age > FORGET)
    }

    /// Waits, a little, until memory agrees with the shim: a client whose stream has just ended asks for the exit code
    /// before the event of the exit has come.
    pub(crate) async fn settle(&self, shared: &Arc<Shared>) {
        let starting = async {
            loop {
                let changed = self.changed.notified();
                if !self.in_hand.load(Ordering::SeqCst) {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(SETTLE, starting).await;
        if !matches!(self.lock().phase, ExecPhase::Running { .. }) {
            return;
        }
        let _ = tokio::time::timeout(SETTLE, self.reconcile(shared)).await;
        // the shim lets the client go when the output has ended, which may be an instant before the exit is known
        let deadline = tokio::time::Instant::now() + SETTLE;
        let mut limit = tokio::time::Instant::now() + GRACE;
        loop {
            let changed = self.changed.notified();
            if !self.is_running() {
                return;
            }
            if self.stream_over.load(Ordering::SeqCst) {
                limit = deadline;
            }
            if tokio::time::timeout_at(limit, changed).await.is_err() {
                return;
            }
        }
    }

    /// The shim has let the client go.
    pub(crate) fn stream_ended(&self) {
        self.stream_over.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// What inspect shows.
    pub fn inspect(&self) -> ExecInspect {
        let record = self.record();
        let (pid, code) = match record.phase {
            ExecPhase::Created | ExecPhase::Starting => (0, None),
            ExecPhase::Running { pid } => (pid, None),
            ExecPhase::Exited { code, pid, .. } => (pid, Some(code)),
        };
        let running = matches!(record.phase, ExecPhase::Starting | ExecPhase::Running { .. });
        let mut words = record.request.cmd.map(|w| w.0).unwrap_or_default().into_iter();
        ExecInspect {
            id: record.id,
            running,
            exit_code: code,
            process_config: ExecProcess {
                tty: record.request.tty,
                entrypoint: words.next().unwrap_or_default(),
                arguments: words.collect(),
                privileged: Some(record.request.privileged),
                user: record.request.user,
            },
            open_stdin: record.request.attach_stdin,
            open_stderr: record.request.attach_stderr,
            open_stdout: record.request.attach_stdout,
            can_remove: matches!(record.phase, ExecPhase::Exited { .. }),
            container_id: record.container_id,
            detach_keys: String::new(),
            pid,
        }
    }

    /// Moves to `Starting` if nobody did before.
    fn claim_start(&self) -> Result<ExecRecord, EngineError> {
        let mut record = self.lock();
        match record.phase {
            ExecPhase::Created => {
                record.phase = ExecPhase::Starting;
                Ok(record.clone())
            }
            ExecPhase::Exited { .. } => {
                Err(EngineError::Conflict(format!("exec command {} has already run", self.id)))
            }
            ExecPhase::Starting | ExecPhase::Running { .. } => {
                Err(EngineError::Conflict(format!("exec command {} is already running", self.id)))
            }
        }
    }

    /// The exec ended: recorded, then let go in the shim, then told. An end that is known already changes nothing.
    pub(crate) async fn exited(&self, shared: &Arc<Shared>, exit: Exit) {
        let record = {
            let mut record = self.lock();
            let pid = match record.phase {
                ExecPhase::Starting => 0,
                ExecPhase::Running { pid } => pid,
                ExecPhase::Created | ExecPhase::Exited { .. } => return,
            };
            let at = exit.at.map_or_else(Time::now, Time::from);
            record.phase = ExecPhase::Exited { code: i64::from(exit.status), pid, at };
            record.clone()
        };
        self.changed.notify_waiters();
        save(shared, &record).await;
        self.forget_process(shared).await;
        let attributes = [("execID", self.id.clone()), ("exitCode", exit.status.to_string())];
        event(shared, &self.container_id, "exec_die", &attributes);
    }

    async fn forget_process(&self, shared: &Arc<Shared>) {
        match shared.lifecycle.delete(&self.container_id, &self.id).await {
            Ok(_) => {}
            Err(error) => tracing::debug!(exec = self.id, %error, "ended exec was not deleted"),
        }
    }

    /// Runs the exec. With a client, its output goes there; the client is told of a failure in its stream.
    pub(crate) async fn start(
        &self,
        shared: &Arc<Shared>,
        container: Arc<Record>,
        client: Option<AttachClient>,
        console_size: Option<(u32, u32)>,
    ) -> Result<(), EngineError> {
        let record = match self.claim_start() {
            Ok(record) => record,
            Err(error) => {
                if let Some(client) = client {
                    complain(client, &error);
                }
                return Err(error);
            }
        };
        self.in_hand.store(true, Ordering::SeqCst);
        let done = self.start_claimed(shared, container, record, client, console_size).await;
        self.in_hand.store(false, Ordering::SeqCst);
        self.changed.notify_waiters();
        done
    }

    async fn start_claimed(
        &self,
        shared: &Arc<Shared>,
        container: Arc<Record>,
        record: ExecRecord,
        client: Option<AttachClient>,
        console_size: Option<(u32, u32)>,
    ) -> Result<(), EngineError> {
        save(shared, &record).await;
        let words = record.request.cmd.as_ref().map(|w| w.0.join(" ")).unwrap_or_default();
        let attributes = [("execID", self.id.clone())];
        event(shared, &self.container_id, &format!("exec_start: {words}"), &attributes);
        let spare =
            client.as_ref().and_then(|client| Some((client.stream.try_clone().ok()?, client.framing)));
        match self.run(shared, container, &record, client, console_size).await {
            Ok(pid) => {
                let now = {
                    let mut record = self.lock();
                    // it may have ended already
                    if record.phase == ExecPhase::Starting {
                        record.phase = ExecPhase::Running { pid };
                    }
                    record.clone()
                };
                save(shared, &now).await;
                Ok(())
            }
            Err(error) => {
                let code = if let EngineError::Start { code, .. } = &error { *code } else { 128 };
                let now = {
                    let mut record = self.lock();
                    record.phase = ExecPhase::Exited { code, pid: 0, at: Time::now() };
                    record.clone()
                };
                save(shared, &now).await;
                if let Some((stream, framing)) = spare {
                    report(&stream, framing, &error);
                }
                self.forget_process(shared).await;
                Err(error)
            }
        }
    }

    async fn run(
        &self,
        shared: &Arc<Shared>,
        container: Arc<Record>,
        record: &ExecRecord,
        client: Option<AttachClient>,
        console_size: Option<(u32, u32)>,
    ) -> Result<u32, EngineError> {
        let id = &self.container_id;
        // the client is told before anything can fail, since failures go into its stream
        let mut client = client;
        if let Some(client) = &mut client {
            let head = std::mem::take(&mut client.head);
            attach::tell(&client.stream, &head).map_err(|e| EngineError::host("answer the client", e))?;
        }
        let rootfs = shared.lifecycle.rootfs(id).await?;
        let layers = plan::layer_dirs(&rootfs);
        let size = console_size.or(record.request.console_size);
        let process = plan::exec(shared, &container, &record.request, size, &layers)?;
        let stdio = plan::exec_stdio(shared, &container, record)?;
        let spec = ExecSpec {
            container_id: id.clone(),
            exec_id: self.id.clone(),
            process,
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: record.request.tty,
        };
        shared.lifecycle.create_exec(&spec).await.map_err(|e| start_failure(&e))?;
        if let Some(client) = client {
            let watch = Watch::exec(shared, container, &self.id);
            attach::hand_over(client, watch).await.map_err(|e| EngineError::Internal(e.to_string()))?;
        }
        shared.lifecycle.start(id, &self.id).await.map_err(|e| start_failure(&e))
    }

    /// Finds out what became of an exec while nobody listened.
    pub(crate) async fn reconcile(&self, shared: &Arc<Shared>) {
        if !self.is_running() || self.in_hand.load(Ordering::SeqCst) {
            return;
        }
        match shared.lifecycle.status(&self.container_id, &self.id).await {
            Ok(info) => match info.status {
                ProcessStatus::Stopped(exit) => self.exited(shared, exit).await,
                ProcessStatus::Created => {
                    // its start was lost with the daemon
                    self.exited(shared, Exit { status: 137, at: None }).await;
                }
                _ => {
                    let now = {
                        let mut record = self.lock();
                        if record.phase == ExecPhase::Starting {
                            record.phase = ExecPhase::Running { pid: info.pid };
                        }
                        record.clone()
                    };
                    save(shared, &now).await;
                }
            },
            Err(error) if error.kind() == Kind::NotFound => {
                self.exited(shared, Exit { status: 137, at: None }).await;
            }
            Err(error) => tracing::warn!(exec = self.id, %error, "cannot find out the exec's state"),
        }
    }
}

async fn save(shared: &Arc<Shared>, record: &ExecRecord) {
    if let Err(error) = shared.records.put_exec(record).await {
        tracing::error!(exec = record.id, %error, "exec's record was not saved");
    }
}

/// Publishes an event of the container an exec belongs to, if it is still there.
pub(crate) fn event(shared: &Arc<Shared>, container_id: &str, action: &str, extra: &[(&str, String)]) {
    let Ok(handle) = shared.registry.find(container_id) else { return };
    let mut attributes = handle.view().record.attributes();
    attributes.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    shared.events.publish("container", action, container_id, attributes, SystemTime::now());
}

/// The refusal of a client that was not told anything yet.
fn complain(client: AttachClient, error: &EngineError) {
    let status = error.kind().http_status();
    let body = serde_json::json!({ "message": error.to_string() }).to_string();
    let head = format!(
        "HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = attach::tell(&client.stream, head.as_bytes());
}

/// A failure as the last words in a client's stream.
fn report(stream: &std::os::unix::net::UnixStream, framing: wharf_stdio::Framing, error: &EngineError) {
    let text = format!("{error}\r\n").into_bytes();
    let mut bytes = Vec::new();
    if framing == wharf_stdio::Framing::Multiplexed {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend(wharf_stdio::frame::multiplex_header(1, length));
    }
    bytes.extend(text);
    let _ = attach::tell(stream, &bytes);
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// Whether execs can be made in a container that stands so.
pub(crate) fn check_container(record: &Record) -> Result<(), EngineError> {
    match &record.phase {
        Phase::Running(run) if run.paused => Err(EngineError::Conflict(format!(
            "Container {} is paused, unpause the container before exec",
            record.id
        ))),
        Phase::Running(_) => Ok(()),
        Phase::Restarting { .. } => Err(EngineError::Restarting(record.id.clone())),
        _ => Err(EngineError::NotRunning(record.id.clone())),
    }
}
