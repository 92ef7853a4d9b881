//! The API client: one negotiated version, connections kept for the next request.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::body::{self, RequestBody};
use super::response::{MAX_ERROR, Response, error_text};
use super::url::Query;
use super::{ClientError, Endpoint, dial};

/// The newest API version whose answers this client understands.
pub(crate) const MAX_VERSION: ApiVersion = ApiVersion { major: 1, minor: 51 };
/// What a server speaks that does not say.
const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 24 };

/// `1.51`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    pub(crate) fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.trim().trim_start_matches('v').split_once('.')?;
        Some(ApiVersion { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    pub(crate) fn at_least(self, minor: u16) -> bool {
        self >= ApiVersion { major: 1, minor }
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What `/_ping` says of the server.
#[derive(Clone, Debug)]
pub(crate) struct Ping {
    pub(crate) version: ApiVersion,
}

type Body = BoxBody<Bytes, io::Error>;
type Idle = Rc<RefCell<Vec<SendRequest<Body>>>>;

/// A client for one endpoint. Nothing is dialled before the first request.
pub(crate) struct Client {
    endpoint: Endpoint,
    /// From DOCKER_API_VERSION: no negotiation then.
    pinned: Option<ApiVersion>,
    /// From the configuration's HttpHeaders.
    headers: Vec<(String, String)>,
    ping: OnceCell<Ping>,
    idle: Idle,
}

/// A connection in use; it goes back to the idle ones when an answer was read to its end.
pub(super) struct Lease {
    idle: Idle,
    sender: Option<SendRequest<Body>>,
}

impl Lease {
    pub(super) fn give_back(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.idle.borrow_mut().push(sender);
        }
    }
}

impl Client {
    pub(crate) fn new(
        endpoint: Endpoint,
        pinned: Option<ApiVersion>,
        headers: Vec<(String, String)>,
    ) -> Client {
        Client { endpoint, pinned, headers, ping: OnceCell::new(), idle: Idle::default() }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn extra_headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The server's answer to `/_ping`; asked once.
    pub(crate) async fn ping(&self) -> Result<&Ping, ClientError> {
        if let Some(ping) = self.ping.get() {
            return Ok(ping);
        }
        let mut answer = self.raw(Method::HEAD, "/_ping", &[], RequestBody::Empty.into_body(), None).await?;
        if answer.status != StatusCode::OK {
            answer = self.raw(Method::GET, "/_ping", &[], RequestBody::Empty.into_body(), None).await?;
        }
        let version = answer.header("api-version").and_then(ApiVersion::parse).unwrap_or(OLDEST);
        answer.read_up_to(MAX_ERROR).await?;
        Ok(self.ping.get_or_init(|| Ping { version }))
    }

    /// The version that requests are made in: the older of the server's and ours, or the pinned one.
    pub(crate) async fn version(&self) -> Result<ApiVersion, ClientError> {
        match self.pinned {
            Some(version) => Ok(version),
            None => Ok(self.ping().await?.version.min(MAX_VERSION)),
        }
    }

    /// The version if it is known without asking.
    pub(crate) fn known_version(&self) -> Option<ApiVersion> {
        self.pinned.or_else(|| self.ping.get().map(|ping| ping.version.min(MAX_VERSION)))
    }

    pub(crate) async fn get(&self, path: &str, query: Query) -> Result<Response, ClientError> {
        self.send(Method::GET, path, query, RequestBody::Empty).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        query: Query,
        body: RequestBody,
    ) -> Result<Response, ClientError> {
        self.send(Method::POST, path, query, body).await
    }

    pub(crate) async fn delete(&self, path: &str, query: Query) -> Result<Response, ClientError> {
        self.send(Method::DELETE, path, query, RequestBody::Empty).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        query: Query,
        body: RequestBody,
    ) -> Result<Response, ClientError> {
        self.send_with(method, path, query, body, &[]).await
    }

    /// As [`Self::send`] with more headers.
    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &str,
        query: Query,
        body: RequestBody,
        headers: &[(&str, String)],
    ) -> Result<Response, ClientError> {
        let target = format!("/v{}{path}{}", self.version().await?, query.as_str());
        let content_type = body.content_type();
        accept(self.raw(method, &target, headers, body.into_body(), content_type).await?).await
    }

    /// Posts what `source` yields, as a tar archive.
    pub(crate) async fn upload(
        &self,
        path: &str,
        query: Query,
        source: impl io::Read + Send + 'static,
    ) -> Result<Response, ClientError> {
        let target = format!("/v{}{path}{}", self.version().await?, query.as_str());
        let answer =
            self.raw(Method::POST, &target, &[], body::stream(source), Some("application/x-tar")).await?;
        accept(answer).await
    }

    async fn raw(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, String)],
        body: Body,
        content_type: Option<&str>,
    ) -> Result<Response, ClientError> {
        let act = format!("{method} {}", target.split('?').next().unwrap_or(target));
        let broken = |text: String| ClientError::Broken { act: act.clone(), text };
        let base = match &self.endpoint {
            Endpoint::Tcp { base, .. } => base.as_str(),
            Endpoint::Unix(_) => "",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{base}{target}"))
            .header("Host", self.host_header())
            .header("User-Agent", USER_AGENT);
        if let Some(content_type) = content_type {
            request = request.header("Content-Type", content_type);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(body).map_err(|bad| broken(bad.to_string()))?;
        let mut sender = self.connection().await?;
        let answer = sender.send_request(request).await.map_err(|bad| broken(describe(&bad)))?;
        let (parts, body) = answer.into_parts();
        let lease = Lease { idle: self.idle.clone(), sender: Some(sender) };
        Ok(Response { act, status: parts.status, headers: parts.headers, body, lease })
    }

    pub(super) fn host_header(&self) -> String {
        match &self.endpoint {
            Endpoint::Unix(_) => "api.wharf.localhost".to_owned(),
            Endpoint::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }

    async fn connection(&self) -> Result<SendRequest<Body>, ClientError> {
        loop {
            let Some(mut sender) = self.idle.borrow_mut().pop() else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let socket = dial::connect(&self.endpoint).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|bad| ClientError::Broken { act: "handshake".to_owned(), text: bad.to_string() })?;
        tokio::spawn(async move {
            // an error here also reaches whoever waits for the answer
            let _ = connection.await;
        });
        Ok(sender)
    }
}

pub(super) const USER_AGENT: &str = concat!("Wharf-Client/", env!("CARGO_PKG_VERSION"), " (linux)");

/// Turns an answer that is no success into an error.
async fn accept(mut answer: Response) -> Result<Response, ClientError> {
    let ok = answer.status.is_success() || answer.status == StatusCode::NOT_MODIFIED;
    if ok {
        return Ok(answer);
    }
    let status = answer.status;
    let body = answer.read_up_to(MAX_ERROR).await?;
    Err(ClientError::Daemon { status, message: error_text(status, &body) })
}

fn describe(bad: &hyper::Error) -> String {
    use std::error::Error as _;
    match bad.source() {
        Some(source) => format!("{bad}: {source}"),
        None => bad.to_string(),
    }
}
