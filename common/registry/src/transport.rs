//! One HTTP request with its redirects, without authentication logic.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect};
use rustls::{AlertDescription, CertificateError};

use crate::config::Config;
use crate::endpoint::{Endpoint, authority, is_insecure};
use crate::error::RegistryError;
use crate::scope::Scopes;
use crate::tls::{TlsSettings, client_config};

const MAX_REDIRECTS: usize = 10;

/// A request to be sent; `authorization` never leaves the origin of `url`.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    /// A form body, encoded.
    pub form: Option<String>,
    pub authorization: Option<HeaderValue>,
    /// Headers that, too, do not leave the origin.
    pub own: HeaderMap,
    /// Scopes that the request needs beside those of its repository.
    pub scopes: Scopes,
    /// It goes to a token service: that is part of the registry, wherever it is.
    pub is_for_token: bool,
    /// It is not made again when it fails for a passing reason: its sender sees to that.
    pub once: bool,
    /// A body of its own, made anew for each time the request is sent.
    pub content: Option<Content>,
}

/// Makes a body.
pub(crate) type Content = Arc<dyn Fn() -> reqwest::Body + Send + Sync>;

impl Outgoing {
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            form: None,
            authorization: None,
            own: HeaderMap::new(),
            scopes: Scopes::default(),
            is_for_token: false,
            once: false,
            content: None,
        }
    }
}

/// The method as Go's texts spell it.
pub(crate) fn spelled(method: &Method) -> &'static str {
    match *method {
        Method::HEAD => "Head",
        Method::POST => "Post",
        Method::PUT => "Put",
        Method::PATCH => "Patch",
        Method::DELETE => "Delete",
        _ => "Get",
    }
}

/// The URL without what may be secret: user information, and the query, which can hold a signature.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

pub(crate) struct Transport {
    config: Config,
    clients: Mutex<HashMap<TlsSettings, Client>>,
}

/// Clients kept; each has its connections.
const MAX_CLIENTS: usize = 64;

impl Transport {
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(Self { config, clients: Mutex::default() })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sends the request and follows redirects of reads.
    pub async fn send(&self, request: &Outgoing, endpoint: &Endpoint) -> Result<Response, RegistryError> {
        let origin = request.url.origin();
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client_for(&url, request, endpoint).await?;
            let mut builder =
                client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
            if let Some(form) = &request.form {
                builder =
                    builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
            }
            if let Some(content) = &request.content {
                builder = builder.body(content());
            }
            if url.origin() == origin {
                let mut own = request.own.clone();
                if let Some(authorization) = &request.authorization {
                    own.insert(AUTHORIZATION, authorization.clone());
                }
                builder = builder.headers(own);
            }
            let response = builder.send().await.map_err(|e| broken(&request.method, &url, &e))?;
            match redirected(request, &url, &response)? {
                Some(target) => url = target,
                None => return Ok(response),
            }
        }
        Err(RegistryError::Redirect {
            from: shown(&request.url),
            to: shown(&url),
            reason: "there were ten before it",
        })
    }

    /// The endpoint's own certificate is shown to it and to its token service, and nowhere else.
    async fn client_for(
        &self,
        url: &Url,
        request: &Outgoing,
        endpoint: &Endpoint,
    ) -> Result<Client, RegistryError> {
        let host = authority(url);
        let insecure = is_insecure(&self.config, &host).await;
        if url.scheme() == "http" && !insecure && !endpoint.is_plain() {
            return Err(RegistryError::PlainHttp { url: shown(url) });
        }
        let mut tls = endpoint.tls.clone();
        if host != endpoint.host {
            tls.skip_verify |= insecure;
            if !request.is_for_token {
                tls.client.clear();
            }
        }
        self.client(tls).await
    }

    async fn client(&self, tls: TlsSettings) -> Result<Client, RegistryError> {
        if let Some(known) = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&tls) {
            return Ok(known.clone());
        }
        let connect_timeout = tls.dial_timeout.unwrap_or(self.config.connect_timeout);
        let settings = tls.clone();
        let made = tokio::task::spawn_blocking(move || client_config(&settings)).await;
        let made = made.unwrap_or_else(|e| Err(RegistryError::Settings(e.to_string())))?;
        let client = Client::builder()
            .user_agent(&self.config.user_agent)
            .redirect(redirect::Policy::none())
            .connect_timeout(connect_timeout)
            .read_timeout(self.config.read_timeout)
            .referer(false)
            .tls_backend_preconfigured(made)
            .build()
            .map_err(|e| RegistryError::Settings(e.to_string()))?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        // made twice at once, the first is kept
        Ok(clients.entry(tls).or_insert(client).clone())
    }
}

/// Where a redirect leads, if it may be followed.
fn redirected(request: &Outgoing, from: &Url, response: &Response) -> Result<Option<Url>, RegistryError> {
    let follows = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !follows || !matches!(request.method, Method::GET | Method::HEAD) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
    let refused = |to: &str, reason| RegistryError::Redirect { from: shown(from), to: to.to_owned(), reason };
    let location = location.ok_or_else(|| refused("", "it has no location"))?;
    let target = from.join(location).map_err(|_| refused("", "its location is no URL"))?;
    match target.scheme() {
        "https" => Ok(Some(target)),
        "http" if from.scheme() == "http" => Ok(Some(target)),
        "http" => Err(refused(&shown(&target), "it gives up TLS")),
        _ => Err(refused(&shown(&target), "it leaves HTTP")),
    }
}

const UNVERIFIED: &str = "tls: failed to verify certificate: x509:";

/// A request that got no answer, in the words of Go's net package.
pub(crate) fn broken(method: &Method, url: &Url, error: &reqwest::Error) -> RegistryError {
    let reason = reason(url, error);
    // one whose certificate is wrong is there: it is not to be asked without TLS
    let is_connect = error.is_connect() && !reason.starts_with(UNVERIFIED);
    RegistryError::Transport { method: spelled(method), url: shown(url), reason, is_connect }
}

/// A failure of TLS, however deep it is wrapped.
fn tls_failure(mut error: &io::Error) -> Option<&rustls::Error> {
    loop {
        let inner = error.get_ref()?;
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        error = inner.downcast_ref::<io::Error>()?;
    }
}

/// In the words of Go's TLS, as far as clients show them.
fn tls_reason(failure: &rustls::Error, host: &str) -> String {
    match failure {
        rustls::Error::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".to_owned(),
        rustls::Error::InvalidCertificate(failure) => match failure {
            CertificateError::UnknownIssuer => {
                format!("{UNVERIFIED} certificate signed by unknown authority")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("{UNVERIFIED} certificate has expired or is not yet valid")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("{UNVERIFIED} certificate is not valid for {host}")
            }
            other => format!("{UNVERIFIED} {other:?}"),
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "remote error: tls: certificate required".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::BadCertificate) => {
            "remote error: tls: bad certificate".to_owned()
        }
        other => format!("tls: {other}"),
    }
}

fn reason(url: &Url, error: &reqwest::Error) -> String {
    let host = url.host_str().unwrap_or_default();
    let address = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    let mut innermost = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        innermost = cause.to_string();
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            if let Some(tls) = tls_failure(io) {
                return tls_reason(tls, host);
            }
            match io.kind() {
                io::ErrorKind::ConnectionRefused => {
                    return format!("dial tcp {address}: connect: connection refused");
                }
                io::ErrorKind::NetworkUnreachable => {
                    return format!("dial tcp {address}: connect: network is unreachable");
                }
                io::ErrorKind::HostUnreachable => {
                    return format!("dial tcp {address}: connect: no route to host");
                }
                _ => {}
            }
        }
        if innermost.starts_with("dns error") || innermost.contains("failed to lookup address") {
            return format!("dial tcp: lookup {host}: no such host");
        }
        source = cause.source();
    }
    if error.is_timeout() {
        return if error.is_connect() {
            format!("dial tcp {address}: i/o timeout")
        } else {
            "i/o timeout".to_owned()
        };
    }
    if innermost.is_empty() { "connection failed".to_owned() } else { innermost }
}
