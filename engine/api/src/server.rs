//! The connection loop: HTTP/1.1 on unix sockets, versions, the headers that every answer has.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Request, Uri, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use crate::error::ApiError;
use crate::hijack::{self, Slot, Taken};
use crate::version::{self, ApiVersion};

/// How long a client may take to send a request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
/// Pause after accepting failed, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves one listener for ever.
pub async fn serve(listener: UnixListener, app: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = app.clone();
                tokio::spawn(async move {
                    if let Err(error) = connection(stream, app).await {
                        tracing::debug!(%error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends or a route takes it.
pub async fn connection(stream: UnixStream, app: Router) -> Result<(), hyper::Error> {
    let (slot, mut taking) = mpsc::channel::<hijack::Request>(1);
    let service = service_fn(move |request| answer(request, app.clone(), Slot(slot.clone())));
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(256 << 10)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = &mut serving => return ended,
        Some(request) = taking.recv() => {
            let parts = serving.into_parts();
            let buffered = parts.read_buf.to_vec();
            match parts.io.into_inner().into_std() {
                Ok(stream) => (request.go_on)(Taken { stream, buffered }).await,
                Err(error) => tracing::warn!(%error, "a connection was not taken over"),
            }
        }
    }
    Ok(())
}

async fn answer(request: Request<Incoming>, app: Router, slot: Slot) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    let started = std::time::Instant::now();
    let line = format!("{} {}", request.method(), request.uri());
    let mut response = match strip_version(&mut request) {
        Ok(version) => {
            request.extensions_mut().insert(version);
            request.extensions_mut().insert(slot);
            app.oneshot(request).await.into_response()
        }
        Err(error) => error.into_response(),
    };
    for (name, value) in standard_headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    tracing::debug!(request = line, status = response.status().as_u16(), took = ?started.elapsed(), "answered");
    Ok(response)
}

/// Headers of every answer, as Docker's version middleware sets them.
pub fn standard_headers() -> [(&'static str, String); 4] {
    [
        ("api-version", ApiVersion::NEWEST.to_string()),
        ("docker-experimental", "false".to_owned()),
        ("ostype", "linux".to_owned()),
        (header::SERVER.as_str(), format!("Wharf/{} (linux)", env!("CARGO_PKG_VERSION"))),
    ]
}

fn strip_version(request: &mut Request<Body>) -> Result<ApiVersion, ApiError> {
    let (version, rest) = version::split(request.uri().path())?;
    if rest.len() != request.uri().path().len() {
        let path_and_query = match request.uri().query() {
            Some(query) => format!("{rest}?{query}"),
            None => rest.to_owned(),
        };
        *request.uri_mut() =
            path_and_query.parse::<Uri>().map_err(|_| ApiError::invalid("the path is not a valid URI"))?;
    }
    Ok(version)
}
