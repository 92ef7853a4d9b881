//! A connection to one shim: ttrpc or gRPC, protobuf messages of task API v3, sent to the v3 or v2 service.
//!
//! The two versions have the same messages under two service names.

mod dial;
mod grpc;
mod ttrpc;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use prost::Message;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use wharf_containerd::containerd::task::v3::{ConnectRequest, ConnectResponse};
use wharf_kinds::Kind;

use crate::endpoint::{Endpoint, Protocol};
use crate::observed::Observed;

use self::dial::dial;
#[cfg(test)]
pub(crate) use self::grpc::Encoded;
use self::grpc::GrpcClient;
use self::ttrpc::TtrpcClient;

/// Calls under way at one shim, waits not counted. Keeps a stuck shim's unanswered requests within the
/// socket's buffer.
const MAX_CALLS: usize = 64;

/// How long a call waits for a shim that is known to be stuck before it fails.
const STUCK_PATIENCE: Duration = Duration::from_secs(5);

/// How long a gRPC shim may take for the first words of its protocol.
const CONNECT: Duration = Duration::from_secs(2);

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

/// Which connection it is or was.
pub(crate) struct Identity(Weak<Connection>);

impl Identity {
    pub(crate) fn is_of(&self, client: &ShimClient) -> bool {
        // the address is no other's while this is there
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&client.connection))
    }

    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

enum Transport {
    Ttrpc(TtrpcClient),
    /// Large, and rare.
    Grpc(Box<GrpcClient>),
}

/// Becomes true when a connection is gone.
type Gone = Observed<bool>;

struct Connection {
    transport: Transport,
    service: &'static str,
    namespace: Box<str>,
    id: Box<str>,
    gone: Arc<Gone>,
    calls: Semaphore,
    /// A call went unanswered for its time and the shim has shown no life since.
    stuck: Observed<bool>,
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
        let gone = Arc::new(Gone::default());
        let transport = match endpoint.protocol {
            Protocol::Ttrpc => Transport::Ttrpc(TtrpcClient::over(stream, gone.clone())),
            Protocol::Grpc => {
                let made = timeout(CONNECT, GrpcClient::over(stream, gone.clone(), namespace));
                // the kernel has accepted for it
                let made = Box::pin(made).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
                Transport::Grpc(Box::new(made))
            }
        };
        let connection = Connection {
            transport,
            service,
            namespace: namespace.into(),
            id: id.into(),
            gone,
            calls: Semaphore::new(MAX_CALLS),
            stuck: Observed::new(false),
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
        let _turn = self.turn(method, limit).await?;
        match timeout_at(deadline, self.send(method, request)).await {
            Ok(answer) => answer,
            Err(elapsed) => {
                self.probe();
                Err(out_of_time(elapsed))
            }
        }
    }

    /// Waits until the shim may be asked, at most `limit`.
    async fn turn(&self, method: &'static str, limit: Duration) -> Result<SemaphorePermit<'_>, CallError> {
        let Connection { calls, stuck, .. } = &*self.connection;
        let is_stuck = self.is_stuck();
        if !is_stuck && let Ok(turn) = calls.try_acquire() {
            return Ok(turn);
        }
        let turn = async {
            stuck.until(|stuck| (!stuck).then_some(())).await;
            calls.acquire().await.map_err(|_| CallError::Closed)
        };
        let limit = if is_stuck { limit.min(STUCK_PATIENCE) } else { limit };
        timeout(limit, turn).await.map_err(|_| CallError::TimedOut { method, limit })?
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
        self.connection.stuck.get()
    }

    /// To know the connection by, without keeping it open.
    pub(crate) fn identity(&self) -> Identity {
        Identity(Arc::downgrade(&self.connection))
    }

    /// Resolves when the connection is gone, from whichever side. Does not keep it open.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let gone = self.connection.gone.clone();
        async move { gone.until(|gone| gone.then_some(())).await }
    }

    async fn send<Q, A>(&self, method: &'static str, request: &Q) -> Result<A, CallError>
    where
        Q: Message,
        A: Message + Default,
    {
        let Connection { transport, service, namespace, .. } = &*self.connection;
        let payload = request.encode_to_vec();
        let answer = match transport {
            Transport::Ttrpc(client) => client.call(service, method, namespace, payload).await?,
            // not part of the future of every call that waits
            Transport::Grpc(client) => Box::pin(client.call(service, method, payload)).await?,
        };
        A::decode(answer.as_slice())
            .map_err(|error| CallError::Malformed { method, reason: error.to_string() })
    }

    /// Marks the shim stuck until it answers a question that any shim answers at once.
    fn probe(&self) {
        if self.connection.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.connection.stuck.set(true);
        tracing::warn!(
            namespace = &*self.connection.namespace,
            id = &*self.connection.id,
            "shim does not answer in time"
        );
        // holds the connection until the shim answers or is gone
        let client = self.clone();
        tokio::spawn(async move {
            let question = ConnectRequest { id: client.connection.id.to_string() };
            tokio::select! {
                // any answer is a sign of life
                _ = client.send::<_, ConnectResponse>("Connect", &question) => {}
                () = client.closed() => {}
            }
            client.connection.stuck.set(false);
            client.connection.probing.store(false, Ordering::Release);
        });
    }
}

/// Whether a failed connection means that nobody serves the socket any more. Anything else, such as a full backlog
/// or too many open files here, says nothing about the shim.
pub(crate) fn means_dead(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}
