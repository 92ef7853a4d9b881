//! Every call that is served: counted for Prometheus, and a span for traces.
//!
//! The names are those of the gRPC middleware that containerd uses. A method's codes appear with their first call.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use super::exposition::{Exposition, Histogram, Kind};
use super::frames::Frames;
use crate::reflection::SERVED;

/// Codes as Go's gRPC names them, by their number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Connects the span of a call with that of the caller, which its headers name.
pub type Adopt = fn(&Span, &HeaderMap);

/// What is known of every method's calls.
pub(crate) struct Calls {
    /// By path, `/package.Service/Method`.
    methods: HashMap<String, Arc<Method>>,
    /// Whether durations are kept too.
    histogram: bool,
}

struct Method {
    service: String,
    name: String,
    kind: &'static str,
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    durations: Mutex<Histogram>,
}

impl Calls {
    /// Knows the methods of everything that is served.
    pub(crate) fn new(descriptors: &[&[u8]], histogram: bool) -> Self {
        let mut methods = HashMap::new();
        for set in descriptors {
            let set = FileDescriptorSet::decode(*set).unwrap_or_default();
            for file in &set.file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    if SERVED.contains(&name.as_str()) {
                        let of = service.method.iter().map(|method| Method::new(&name, method));
                        methods.extend(of.map(|m| (format!("/{}/{}", m.service, m.name), Arc::new(m))));
                    }
                }
            }
        }
        Calls { methods, histogram }
    }

    pub(crate) fn write(&self, to: &mut Exposition) {
        for method in self.methods.values() {
            method.write(to, self.histogram);
        }
    }
}

impl Method {
    fn new(service: &str, method: &prost_types::MethodDescriptorProto) -> Self {
        let kind = match (method.client_streaming(), method.server_streaming()) {
            (false, false) => "unary",
            (true, false) => "client_stream",
            (false, true) => "server_stream",
            (true, true) => "bidi_stream",
        };
        Method {
            service: service.into(),
            name: method.name().into(),
            kind,
            started: AtomicU64::default(),
            received: AtomicU64::default(),
            sent: AtomicU64::default(),
            handled: Default::default(),
            durations: Mutex::default(),
        }
    }

    fn write(&self, to: &mut Exposition, histogram: bool) {
        let labels: [_; 3] =
            [("grpc_method", &*self.name), ("grpc_service", &*self.service), ("grpc_type", self.kind)];
        let counters = [
            ("grpc_server_started_total", "Total number of RPCs started on the server.", &self.started),
            (
                "grpc_server_msg_received_total",
                "Total number of RPC stream messages received on the server.",
                &self.received,
            ),
            (
                "grpc_server_msg_sent_total",
                "Total number of gRPC stream messages sent by the server.",
                &self.sent,
            ),
        ];
        for (name, help, counter) in counters {
            to.sample(name, help, Kind::Counter, &labels, counter.load(Ordering::Relaxed) as f64);
        }
        for (code, handled) in CODES.iter().zip(&self.handled) {
            let handled = handled.load(Ordering::Relaxed);
            if handled > 0 {
                let [method, service, kind] = labels;
                let labels = [("grpc_code", *code), method, service, kind];
                let help = "Total number of RPCs completed on the server, regardless of success or failure.";
                to.sample("grpc_server_handled_total", help, Kind::Counter, &labels, handled as f64);
            }
        }
        let durations = *self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        if histogram && durations.counts.iter().any(|count| *count > 0) {
            let help = "Histogram of response latency (seconds) of gRPC that had been application-level \
                        handled by the server.";
            to.histogram("grpc_server_handling_seconds", help, &labels, &durations);
        }
    }
}

/// Watches the calls of the service below. Costs nothing where nothing is asked for.
#[derive(Clone, Default)]
pub(crate) struct Observe {
    pub(crate) calls: Option<Arc<Calls>>,
    /// Set where spans are wanted.
    pub(crate) adopt: Option<Adopt>,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observe: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    observe: Observe,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = self.observe.calls.as_ref().and_then(|calls| calls.methods.get(request.uri().path()));
        let span = self.observe.adopt.map_or_else(Span::none, |adopt| {
            let span = span(request.uri().path());
            adopt(&span, request.headers());
            span
        });
        if method.is_none() && span.is_none() {
            return Box::pin(self.inner.call(request));
        }
        let call = Call::begin(method.cloned(), span.clone());
        let counted = call.method.clone();
        let request =
            request.map(|body| Body::new(Watched { counted, body, frames: Frames::default(), call: None }));
        let answer = self.inner.call(request).instrument(span);
        Box::pin(async move {
            let mut call = call;
            let response = answer.await.inspect_err(|_| call.end(Code::Unknown))?;
            let counted = call.method.clone();
            // an answer without a body has its status in the headers
            let call = match Status::from_header_map(response.headers()) {
                Some(status) => {
                    call.end(status.code());
                    None
                }
                None => Some(call),
            };
            let watch =
                |body| Body::new(Watched { counted, body, frames: Frames::default(), call: call.map(Sent) });
            Ok(response.map(watch))
        })
    }
}

/// The span of a call, with the attributes of OpenTelemetry's conventions for RPC.
fn span(path: &str) -> Span {
    let name = path.trim_start_matches('/');
    let (service, method) = name.split_once('/').unwrap_or((name, ""));
    tracing::info_span!(
        target: "wharf::rpc",
        "rpc",
        otel.name = name,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    )
}

/// A call under way. One that is dropped was given up by the caller.
struct Call {
    method: Option<Arc<Method>>,
    span: Span,
    since: Instant,
    ended: bool,
}

impl Call {
    fn begin(method: Option<Arc<Method>>, span: Span) -> Self {
        if let Some(method) = &method {
            method.started.fetch_add(1, Ordering::Relaxed);
        }
        Call { method, span, since: Instant::now(), ended: false }
    }

    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Some(method) = &self.method {
            method.handled[code as usize].fetch_add(1, Ordering::Relaxed);
            let seconds = self.since.elapsed().as_secs_f64();
            method.durations.lock().unwrap_or_else(PoisonError::into_inner).observe(seconds);
        }
        self.span.record("rpc.grpc.status_code", code as i32);
        // of the server's errors only those that are its own (conventions for RPC spans)
        if matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ) {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// The call whose answer a body is.
struct Sent(Call);

/// A body whose messages are counted; the end of an answer's is the end of the call.
struct Watched {
    counted: Option<Arc<Method>>,
    body: Body,
    frames: Frames,
    call: Option<Sent>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(method), Some(data)) = (&this.counted, frame.data_ref()) {
                    let counter = if this.call.is_some() { &method.sent } else { &method.received };
                    counter.fetch_add(this.frames.count(data), Ordering::Relaxed);
                }
                if let (Some(trailers), Some(Sent(call))) = (frame.trailers_ref(), &mut this.call) {
                    call.end(Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code()));
                }
            }
            Poll::Ready(Some(Err(status))) => {
                if let Some(Sent(call)) = &mut this.call {
                    call.end(status.code());
                }
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
