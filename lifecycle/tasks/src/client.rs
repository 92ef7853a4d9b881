//! A connection to one shim: ttrpc or gRPC, protobuf messages of task API v3, sent to the v3 or v2 service.
//!
//! The two versions have the same messages under two service names.

mod grpc;

use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;
use ttrpc::proto::{KeyValue, Request};
use wharf_containerd::containerd::task::v3::{ConnectRequest, ConnectResponse};
use wharf_kinds::Kind;

use crate::endpoint::{Address, Endpoint, Protocol};

#[cfg(test)]
pub(crate) use self::grpc::Encoded;
use self::grpc::GrpcClient;

/// The header in which ttrpc peers carry containerd's namespace.
const NAMESPACE_HEADER: &str = "containerd-namespace-ttrpc";

/// Calls under way at one shim, waits not counted. Keeps a stuck shim's unanswered requests within the
/// socket's buffer.
const MAX_CALLS: usize = 64;

/// How long a call waits for a shim that is known to be stuck before it fails.
const STUCK_PATIENCE: Duration = Duration::from_secs(5);

/// How long a gRPC shim may take for the first words of its protocol.
const CONNECT: Duration = Duration::from_secs(2);

/// Longest path that fits `sockaddr_un`.
const MAX_SOCKET_PATH: usize = 107;

/// Why a call to a shim gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The shim answered with an error; its text is passed on as it is.
    #[error("{message}")]
    Refused { kind: Kind, message: String },
    #[error("shim did not answer {method} within {limit:?}: context deadline exceeded")]
    TimedOut { method: &'static str, limit: Duration },
    #[error("ttrpc: closed: unavailable")]
    Closed,
    #[error("shim's answer to {method} is malformed: {reason}")]
    Malformed { method: &'static str, reason: String },
}

impl CallError {
    pub const fn kind(&self) -> Kind {
        match self {
            CallError::Refused { kind, .. } => *kind,
            CallError::TimedOut { .. } => Kind::DeadlineExceeded,
            CallError::Closed => Kind::Unavailable,
            CallError::Malformed { .. } => Kind::Internal,
        }
    }

    pub const fn is_not_found(&self) -> bool {
        matches!(self, CallError::Refused { kind: Kind::NotFound, .. })
    }
}

/// A shim's task service. Clones share the connection, which closes with the last of them.
#[derive(Clone)]
pub struct ShimClient {
    connection: Arc<Connection>,
}

enum Transport {
    Ttrpc(Client),
    Grpc(GrpcClient),
}

struct Connection {
    transport: Transport,
    service: &'static str,
    namespace: String,
    id: String,
    /// Closed when the transport is gone.
    gone: watch::Receiver<()>,
    calls: Semaphore,
    /// A call went unanswered for its time and the shim has shown no life since.
    stuck: watch::Sender<bool>,
    probing: AtomicBool,
}

impl ShimClient {
    /// Connects to the shim of the container `id`. The kernel accepts on behalf of a shim that is stuck.
    pub async fn connect(endpoint: &Endpoint, namespace: &str, id: &str) -> io::Result<Self> {
        let service = match endpoint.version {
            3 => "containerd.task.v3.Task",
            _ => "containerd.task.v2.Task",
        };
        ShimClient::connect_to(service, endpoint, namespace, id).await
    }

    /// The same for another of the shim's services.
    pub(crate) async fn connect_to(
        service: &'static str,
        endpoint: &Endpoint,
        namespace: &str,
        id: &str,
    ) -> io::Result<Self> {
        let stream = dial(&endpoint.address).await?;
        let (alive, gone) = watch::channel(());
        let stream = Watched { stream, _alive: alive };
        let transport = match endpoint.protocol {
            Protocol::Ttrpc => Transport::Ttrpc(Client::new(Socket::new(stream))),
            Protocol::Grpc => {
                let made = timeout(CONNECT, GrpcClient::over(stream, namespace)).await;
                // the kernel has accepted for it
                Transport::Grpc(made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?)
            }
        };
        let connection = Connection {
            transport,
            service,
            namespace: namespace.into(),
            id: id.into(),
            gone,
            calls: Semaphore::new(MAX_CALLS),
            stuck: watch::Sender::new(false),
            probing: AtomicBool::new(false),
        };
        Ok(ShimClient { connection: Arc::new(connection) })
    }

    /// Calls a method and waits for the answer at most `limit`.
    ///
    /// Once a call has run out of time, the shim counts as stuck: further calls wait, within their own limits,
    /// until a probe in the background is answered, so that requests do not pile up in the socket.
    pub async fn call<Q, A>(&self, method: &'static str, request: &Q, limit: Duration) -> Result<A, CallError>
    where
        Q: Message,
        A: Message + Default,
    {
        let deadline = Instant::now() + limit;
        let out_of_time = |_| CallError::TimedOut { method, limit };
        let connection = &self.connection;
        let mut stuck = connection.stuck.subscribe();
        let turn = async {
            stuck.wait_for(|stuck| !stuck).await.map_err(|_| CallError::Closed)?;
            connection.calls.acquire().await.map_err(|_| CallError::Closed)
        };
        let patience = if self.is_stuck() { limit.min(STUCK_PATIENCE) } else { limit };
        let _permit =
            timeout(patience, turn).await.map_err(|_| CallError::TimedOut { method, limit: patience })??;
        match timeout_at(deadline, self.send(method, request)).await {
            Ok(answer) => answer,
            Err(elapsed) => {
                self.probe();
                Err(out_of_time(elapsed))
            }
        }
    }

    /// Calls a method that may take for ever, such as `Wait`.
    pub async fn call_unbounded<Q, A>(&self, method: &'static str, request: &Q) -> Result<A, CallError>
    where
        Q: Message,
        A: Message + Default,
    {
        self.send(method, request).await
    }

    /// Whether the shim owes an answer for longer than it was given.
    pub fn is_stuck(&self) -> bool {
        *self.connection.stuck.borrow()
    }

    /// Resolves when the connection is gone, from whichever side. Does not keep it open.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut gone = self.connection.gone.clone();
        async move { while gone.changed().await.is_ok() {} }
    }

    async fn send<Q, A>(&self, method: &'static str, request: &Q) -> Result<A, CallError>
    where
        Q: Message,
        A: Message + Default,
    {
        let Connection { transport, service, namespace, .. } = &*self.connection;
        let payload = request.encode_to_vec();
        let answer = match transport {
            Transport::Ttrpc(client) => {
                let mut envelope = Request::new();
                envelope.set_service((*service).into());
                envelope.set_method(method.into());
                envelope.payload = payload;
                let mut header = KeyValue::new();
                header.set_key(NAMESPACE_HEADER.into());
                header.set_value(namespace.clone());
                envelope.set_metadata(vec![header]);
                client.request(envelope).await.map_err(|error| refused(method, error))?.payload
            }
            Transport::Grpc(client) => client.call(service, method, payload).await?,
        };
        A::decode(answer.as_slice())
            .map_err(|error| CallError::Malformed { method, reason: error.to_string() })
    }

    /// Marks the shim stuck until it answers a question that any shim answers at once.
    fn probe(&self) {
        if self.connection.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.connection.stuck.send_replace(true);
        tracing::warn!(
            namespace = self.connection.namespace,
            id = self.connection.id,
            "shim does not answer in time"
        );
        // holds the connection until the shim answers or is gone
        let client = self.clone();
        tokio::spawn(async move {
            let question = ConnectRequest { id: client.connection.id.clone() };
            tokio::select! {
                // any answer is a sign of life
                _ = client.send::<_, ConnectResponse>("Connect", &question) => {}
                () = client.closed() => {}
            }
            client.connection.stuck.send_replace(false);
            client.connection.probing.store(false, Ordering::Release);
        });
    }
}

fn refused(method: &'static str, error: ttrpc::Error) -> CallError {
    match error {
        ttrpc::Error::RpcStatus(status) => CallError::Refused {
            kind: Kind::from_grpc_code(protobuf_code(&status)),
            message: status.message().to_owned(),
        },
        ttrpc::Error::Others(reason) => CallError::Malformed { method, reason },
        _ => CallError::Closed,
    }
}

fn protobuf_code(status: &ttrpc::proto::Status) -> i32 {
    // an open enumeration: codes unknown to the library stay numbers
    status.code() as i32
}

/// Whether a failed connection means that nobody serves the socket any more. Anything else, such as a full backlog
/// or too many open files here, says nothing about the shim.
pub(crate) fn means_dead(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// Connects to a unix socket without waiting for its owner.
async fn dial(address: &Address) -> io::Result<UnixStream> {
    match address {
        Address::Abstract(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())?;
            let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        }
        Address::Path(path) if path.as_os_str().len() <= MAX_SOCKET_PATH => connect(path).await,
        Address::Path(path) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let folder =
                rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let name = path.file_name().unwrap_or_default();
            let number = std::os::fd::AsRawFd::as_raw_fd(&folder.as_fd());
            connect(&Path::new("/proc/self/fd").join(number.to_string()).join(name)).await
        }
    }
}

/// A full backlog is reported as `WouldBlock`: the owner is busy, not gone.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let attempt = async {
        loop {
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => return other,
            }
        }
    };
    timeout(PATIENCE, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
}

/// A stream whose end can be noticed without a request under way.
struct Watched {
    stream: UnixStream,
    _alive: watch::Sender<()>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
