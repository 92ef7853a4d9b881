//! The ttrpc socket, where shims send their events: `containerd.services.events.ttrpc.v1.Events/Forward`.
//!
//! Most shims keep their connection: an idle one costs its socket and one small task, and no buffers.

use std::io;
use std::time::Duration;

use lifecycle_tasks::Tasks;
use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use wharf_containerd::containerd::services::events::ttrpc::v1::ForwardRequest;
use wharf_kinds::Kind;
use wharf_ttrpc::{Decoder, Received, Request, Response, Status, Type, frame};

use crate::events;
use crate::status::status;

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// Read at a time, on the stack.
const PIECE: usize = 4096;
/// How long a shim may leave its answers unread before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for descriptors or memory to come back.
const SHORTAGE: Duration = Duration::from_millis(50);

/// Ends the service and its connections when dropped.
pub(crate) struct Served(AbortHandle);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves shims' events on a socket. Needs an async context.
pub(crate) fn serve(listener: UnixListener, tasks: Tasks) -> Served {
    let accepting = async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(converse(stream, tasks.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a shim's connection");
                        sleep(SHORTAGE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    };
    Served(tokio::spawn(accepting).abort_handle())
}

/// Takes calls one after another until the shim goes.
async fn converse(stream: UnixStream, tasks: Tasks) {
    let mut decoder = Decoder::default();
    let mut is_deaf = false;
    let ended: io::Result<()> = async {
        loop {
            stream.readable().await?;
            let answers = take_calls(&stream, &mut decoder, &tasks)?;
            if is_deaf || answers.is_empty() {
                continue;
            }
            let sent = match try_send(&stream, &answers) {
                Ok(sent) if sent < answers.len() => {
                    // rare, and not part of the future of every connection
                    let sending = timeout(PATIENCE, send_all(&stream, &answers[sent..]));
                    Box::pin(sending).await.map_err(|_| io::ErrorKind::TimedOut)?
                }
                other => other.map(drop),
            };
            // a shim that ends does not wait for answers, but what it has said last is to be heard
            is_deaf = sent.is_err();
        }
    }
    .await;
    if let Err(error) = ended
        && (decoder.is_within_frame() || error.kind() != io::ErrorKind::UnexpectedEof)
    {
        tracing::debug!(%error, "a shim's connection broke");
    }
}

/// Takes what has come; returns the answers to it.
fn take_calls(stream: &UnixStream, decoder: &mut Decoder, tasks: &Tasks) -> io::Result<Vec<u8>> {
    let mut piece = [0; PIECE];
    let count = match stream.try_read(&mut piece) {
        Err(error) if is_passing(&error) => return Ok(Vec::new()),
        other => other?,
    };
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = &piece[..count];
    let mut answers = Vec::new();
    while let Some(received) = decoder.take(&mut bytes) {
        let (stream, answer) = match received {
            Received::Frame(call) => (call.stream, answer(tasks, call.stream, call.kind, &call.data)),
            Received::Oversized { stream, error, .. } => {
                (stream, Err(refusal(Kind::ResourceExhausted, error.to_string())))
            }
        };
        let response = Response { status: answer.err(), payload: Vec::new() };
        answers.extend(frame(stream, Type::Response, &response).map_err(io::Error::other)?);
    }
    Ok(answers)
}

/// How much of it the socket takes now.
fn try_send(stream: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.try_write(bytes) {
        Err(error) if is_passing(&error) => Ok(0),
        other => other,
    }
}

async fn send_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        bytes = &bytes[try_send(stream, bytes)?..];
    }
    Ok(())
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn refusal(kind: Kind, message: String) -> Status {
    Status { code: kind.grpc_code(), message, details: Vec::new() }
}

fn answer(tasks: &Tasks, stream: u32, kind: Type, data: &[u8]) -> Result<(), Status> {
    if kind != Type::Request || stream.is_multiple_of(2) {
        return Err(refusal(Kind::InvalidArgument, "only unary requests are served".into()));
    }
    let request = Request::decode(data)
        .map_err(|error| refusal(Kind::InvalidArgument, format!("{error}: invalid argument")))?;
    // in the words of the Go implementation
    match (request.service.as_str(), request.method.as_str()) {
        (SERVICE, "Forward") => forward(tasks, &request.payload).map_err(|error| {
            let kind = match error.code() {
                tonic::Code::InvalidArgument => Kind::InvalidArgument,
                _ => Kind::Unknown,
            };
            refusal(kind, error.message().to_owned())
        }),
        (SERVICE, method) => Err(refusal(Kind::Unimplemented, format!("method {method}"))),
        (service, _) => Err(refusal(Kind::Unimplemented, format!("service {service}"))),
    }
}

fn forward(tasks: &Tasks, payload: &[u8]) -> Result<(), tonic::Status> {
    let request = ForwardRequest::decode(payload)
        .map_err(|error| status(Kind::InvalidArgument, format_args!("{error}: invalid argument")))?;
    let envelope = events::decode(request.envelope)?;
    tasks.forward(envelope).map_err(|error| status(error.kind(), error))
}
