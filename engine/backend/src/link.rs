//! The connection: one HTTP/2 connection over the unix socket, made again whenever it breaks.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::body::Body;
use wharf_kinds::Kind;

use crate::error::{BackendError, is_broken_connection};
use crate::leases::Lease;

/// How to reach the lifecycle daemon.
#[derive(Debug, Clone)]
pub struct BackendConfig {
    /// The daemon's unix socket.
    pub address: PathBuf,
    /// containerd namespace of everything this backend touches.
    pub namespace: String,
    /// Snapshotter for image layers and containers, such as `overlayfs`.
    pub snapshotter: String,
    /// How long a call waits for a connection before it fails as unavailable.
    pub patience: Duration,
}

/// A handle on the lifecycle daemon; clones share the connection.
#[derive(Clone)]
pub struct Backend {
    shared: Arc<Shared>,
}

struct Shared {
    config: BackendConfig,
    namespace: HeaderValue,
    state: watch::Receiver<State>,
    // dropped with the last handle, which ends the connecting task
    _keeper: tokio::task::JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self._keeper.abort();
    }
}

#[derive(Clone)]
enum State {
    Down { reason: String },
    Up { generation: u64, sender: http2::SendRequest<Body> },
}

/// Back-off between attempts to connect: from 20 ms, doubled, to at most 1 s.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Messages larger than this are refused; content travels in chunks of at most 1 MiB.
pub(crate) const MAX_MESSAGE: usize = 32 << 20;

impl Backend {
    /// Starts connecting in the background; must be called within a tokio runtime.
    ///
    /// # Errors
    /// InvalidArgument when the namespace cannot be an HTTP header value.
    pub fn new(config: BackendConfig) -> Result<Self, BackendError> {
        let namespace = HeaderValue::from_str(&config.namespace).map_err(|_| {
            BackendError::new(
                Kind::InvalidArgument,
                "use namespace",
                &config.namespace,
                "not a valid namespace",
            )
        })?;
        let (tell, state) = watch::channel(State::Down { reason: "not connected yet".to_owned() });
        let keeper = tokio::spawn(keep_connected(config.address.clone(), tell));
        Ok(Self { shared: Arc::new(Shared { config, namespace, state, _keeper: keeper }) })
    }

    /// How this backend was made.
    pub fn config(&self) -> &BackendConfig {
        &self.shared.config
    }

    /// The snapshotter every snapshot call uses.
    pub fn snapshotter(&self) -> &str {
        &self.shared.config.snapshotter
    }

    /// Whether a connection stands now.
    pub fn is_connected(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Up { .. })
    }

    /// Waits, without limit, until a connection stands whose generation differs from `seen`; returns its generation.
    /// Consumers of events use this to subscribe and list again after every reconnection.
    pub async fn connected(&self, seen: Option<u64>) -> u64 {
        let mut state = self.shared.state.clone();
        loop {
            if let State::Up { generation, .. } = *state.borrow_and_update()
                && Some(generation) != seen
            {
                return generation;
            }
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(crate) async fn link(
        &self,
        act: &'static str,
        subject: &str,
        lease: Option<&Lease>,
    ) -> Result<Link, BackendError> {
        let lease = match lease {
            Some(lease) => Some(HeaderValue::from_str(lease.id()).map_err(|_| {
                BackendError::new(Kind::InvalidArgument, act, subject, "the lease's id is not a header value")
            })?),
            None => None,
        };
        let mut state = self.shared.state.clone();
        let wait = async {
            loop {
                if let State::Up { sender, .. } = &*state.borrow_and_update()
                    && !sender.is_closed()
                {
                    return Some(sender.clone());
                }
                state.changed().await.ok()?;
            }
        };
        let sender = match tokio::time::timeout(self.shared.config.patience, wait).await {
            Ok(Some(sender)) => sender,
            _ => {
                let reason = match &*self.shared.state.borrow() {
                    State::Down { reason } => reason.clone(),
                    State::Up { .. } => "connection lost".to_owned(),
                };
                let text = format!(
                    "lifecycle daemon is not reachable at {}: {reason}",
                    self.shared.config.address.display()
                );
                return Err(BackendError::new(Kind::Unavailable, act, subject, text));
            }
        };
        Ok(Link { sender, namespace: self.shared.namespace.clone(), lease })
    }

    /// Runs a call that only reads, once more if the connection broke under it.
    pub(crate) async fn read<T, F, Fut>(
        &self,
        act: &'static str,
        subject: &str,
        call: F,
    ) -> Result<T, BackendError>
    where
        F: Fn(Link) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut attempt = 0;
        loop {
            let link = self.link(act, subject, None).await?;
            match call(link).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if attempt == 0 && is_broken_connection(&status) => attempt += 1,
                Err(status) => return Err(BackendError::from_status(act, subject, &status)),
            }
        }
    }

    /// Runs a call that changes something, exactly once.
    pub(crate) async fn change<T, F, Fut>(
        &self,
        act: &'static str,
        subject: &str,
        lease: Option<&Lease>,
        call: F,
    ) -> Result<T, BackendError>
    where
        F: FnOnce(Link) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let link = self.link(act, subject, lease).await?;
        match call(link).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(BackendError::from_status(act, subject, &status)),
        }
    }
}

async fn keep_connected(address: PathBuf, tell: watch::Sender<State>) {
    let mut generation = 0_u64;
    let mut pause = FIRST_PAUSE;
    loop {
        match connect(&address).await {
            Ok((sender, connection)) => {
                generation += 1;
                pause = FIRST_PAUSE;
                tracing::debug!(address = %address.display(), generation, "connected to the lifecycle daemon");
                tell.send_replace(State::Up { generation, sender });
                let reason = match connection.await {
                    Ok(()) => "connection closed".to_owned(),
                    Err(error) => error.to_string(),
                };
                tracing::warn!(address = %address.display(), reason, "lost the lifecycle daemon");
                tell.send_replace(State::Down { reason });
            }
            Err(reason) => {
                tell.send_if_modified(|state| {
                    let news = !matches!(state, State::Down { reason: old } if *old == reason);
                    *state = State::Down { reason: reason.clone() };
                    if news {
                        tracing::warn!(address = %address.display(), reason, "cannot reach the lifecycle daemon");
                    }
                    news
                });
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

type Connection = http2::Connection<TokioIo<UnixStream>, Body, TokioExecutor>;

async fn connect(address: &Path) -> Result<(http2::SendRequest<Body>, Connection), String> {
    let stream = UnixStream::connect(address).await.map_err(|e| e.to_string())?;
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(256 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())
}

/// One connection, dressed with the headers that scope a call.
#[derive(Clone)]
pub(crate) struct Link {
    sender: http2::SendRequest<Body>,
    namespace: HeaderValue,
    lease: Option<HeaderValue>,
}

impl Link {
    /// The authority Go's gRPC sends on unix sockets.
    pub(crate) fn origin() -> Uri {
        Uri::from_static("http://localhost")
    }
}

impl tower::Service<Request<Body>> for Link {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let headers = request.headers_mut();
        headers.insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            headers.insert("containerd-lease", lease.clone());
        }
        Box::pin(self.sender.send_request(request))
    }
}

/// Makes a service client on a link, with this crate's message bound.
macro_rules! client {
    ($client:ty, $link:expr) => {
        <$client>::with_origin($link, $crate::link::Link::origin())
            .max_decoding_message_size($crate::link::MAX_MESSAGE)
            .max_encoding_message_size($crate::link::MAX_MESSAGE)
    };
}
pub(crate) use client;
