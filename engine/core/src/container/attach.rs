//! Attaching: the client's socket is given to the shim, which serves it from then on.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use wharf_stdio::{AttachEvent, AttachRequest, Framing};

use super::actor::Actor;
use super::phase::Phase;
use super::record::Record;
use crate::engine::Shared;
use crate::error::EngineError;

/// A client after its HTTP upgrade was granted but before it was told.
pub struct AttachClient {
    /// Its connection.
    pub stream: UnixStream,
    /// What it sent after the request.
    pub buffered: Vec<u8>,
    /// The HTTP response to send when it is taken in.
    pub head: Vec<u8>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub framing: Framing,
    pub detach_keys: Vec<u8>,
}

/// Clients that may wait for one container to start.
const WAITING: usize = 64;
/// How long the shim may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a client was not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("attach socket {}: {source}", path.display())]
    Connect { path: PathBuf, source: std::io::Error },
    #[error("hand the client over: {0}")]
    HandOver(String),
    #[error("the shim refused the client: {0}")]
    Refused(String),
    #[error("tell the client: {0}")]
    Head(std::io::Error),
    #[error("task failed: {0}")]
    Task(String),
}

/// Who is told when a client goes away.
#[derive(Clone)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    record: Arc<Record>,
    exec: Option<String>,
}

impl Watch {
    pub(crate) fn container(shared: &Arc<Shared>, record: &Record) -> Self {
        Self { shared: shared.clone(), record: Arc::new(record.clone()), exec: None }
    }

    pub(crate) fn exec(shared: &Arc<Shared>, record: Arc<Record>, exec: &str) -> Self {
        Self { shared: shared.clone(), record, exec: Some(exec.to_owned()) }
    }

    /// The client is gone.
    fn over(&self) {
        if let Some(cell) = self.exec.as_ref().and_then(|id| self.shared.registry.exec(id).ok()) {
            cell.stream_ended();
        }
    }

    fn detached(&self) {
        let mut attributes = self.record.attributes();
        let action = match &self.exec {
            Some(id) => {
                attributes.insert("execID".to_owned(), id.clone());
                "exec_detach"
            }
            None => "detach",
        };
        let now = std::time::SystemTime::now();
        self.shared.events.publish("container", action, &self.record.id, attributes, now);
    }
}

impl Actor {
    pub(super) fn attach(&mut self, mut client: AttachClient) {
        match &self.record.phase {
            Phase::Running(_) => {
                let watch = Watch::container(&self.shared, &self.record);
                let id = self.record.id.clone();
                self.event("attach", &[]);
                tokio::spawn(async move {
                    if let Err(error) = hand_over(client, watch).await {
                        tracing::warn!(container = id, %error, "a client was not attached");
                    }
                });
            }
            _ if self.waiting.len() >= WAITING => {
                let error =
                    EngineError::Conflict(format!("too many clients wait for container {}", self.record.id));
                refuse(&client, &error);
            }
            _ => {
                // told at once: the client asks for the start only then
                let head = std::mem::take(&mut client.head);
                if let Err(error) = tell(&client.stream, &head) {
                    tracing::debug!(container = self.record.id, %error, "a client left before it was attached");
                    return;
                }
                self.event("attach", &[]);
                self.waiting.push(client);
            }
        }
    }
}

/// Writes a short response to a socket whose buffer is empty.
pub(crate) fn tell(stream: &UnixStream, head: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut stream = stream;
    let written = stream.write_all(head);
    stream.set_write_timeout(None)?;
    written
}

fn refuse(client: &AttachClient, error: &EngineError) {
    let body = serde_json::json!({ "message": error.to_string() }).to_string();
    let head = format!(
        "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = tell(&client.stream, head.as_bytes());
}

/// Gives a client to the process's shim, and returns when the shim has it. The response head, if any is left,
/// goes to the client first.
pub(crate) async fn hand_over(mut client: AttachClient, watch: Watch) -> Result<(), AttachError> {
    let exec = watch.exec.clone().unwrap_or_default();
    if watch.record.runtime != crate::config::WHARF_RUNTIME {
        let head = std::mem::take(&mut client.head);
        tell(&client.stream, &head).map_err(AttachError::Head)?;
        let shared = watch.shared.clone();
        let record = watch.record.clone();
        let taken = shared.relays.attach((&record.id, &exec), client, watch).await;
        return taken.map_err(|_| AttachError::Refused("its output is over".to_owned()));
    }
    let path = watch.shared.config.attach_path(&watch.record.id, &exec);
    let given = tokio::task::spawn_blocking(move || give(&path, &client)).await;
    let control = given.map_err(|error| AttachError::Task(error.to_string()))??;
    tokio::spawn(async move {
        if let Err(error) = listen(control, &watch).await {
            tracing::debug!(%error, "control of an attached client ended");
        }
        watch.over();
    });
    Ok(())
}

fn give(path: &Path, client: &AttachClient) -> Result<UnixStream, AttachError> {
    let failed = |source| AttachError::Connect { path: path.to_owned(), source };
    let control = UnixStream::connect(path).map_err(failed)?;
    control.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    control.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    if !client.head.is_empty() {
        tell(&client.stream, &client.head).map_err(AttachError::Head)?;
    }
    let request = AttachRequest {
        version: wharf_stdio::ATTACH_VERSION,
        stdin: client.stdin,
        stdout: client.stdout,
        stderr: client.stderr,
        framing: client.framing,
        detach_keys: client.detach_keys.clone(),
        buffered: client.buffered.clone(),
    };
    wharf_stdio::hand_over(&control, &request, Some(client.stream.as_fd()))
        .map_err(|e| AttachError::HandOver(e.to_string()))?;
    match wharf_stdio::receive_event(&control).map_err(|e| AttachError::HandOver(e.to_string()))? {
        AttachEvent::Attached => Ok(control),
        AttachEvent::Refused { reason } => Err(AttachError::Refused(reason)),
        other => Err(AttachError::HandOver(format!("unexpected answer {other:?}"))),
    }
}

/// Reads what the shim reports of a client until it is gone.
async fn listen(control: UnixStream, watch: &Watch) -> std::io::Result<()> {
    control.set_nonblocking(true)?;
    let mut control = tokio::net::UnixStream::from_std(control)?;
    let mut buffer = Vec::new();
    loop {
        match wharf_stdio::frame::take::<AttachEvent>(&mut buffer) {
            Ok(Some(AttachEvent::Detached)) => watch.detached(),
            Ok(Some(AttachEvent::Closed { .. })) => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) => {
                if control.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            Err(error) => return Err(std::io::Error::other(error.to_string())),
        }
    }
}
