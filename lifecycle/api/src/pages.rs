//! A small HTTP server for the metrics and debug addresses: reads one path, answers one text.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

/// Connections at a time; others wait.
const CONNECTIONS: usize = 32;
/// For the headers of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// A text and its media type.
pub(crate) struct Page {
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

/// What is served.
pub(crate) trait Pages: Send + Sync + 'static {
    /// The page at a path, if there is one.
    fn page(&self, path: &str) -> impl Future<Output = Option<Page>> + Send;
}

/// Accepts connections for ever; `accept` gives the next one.
pub(crate) async fn serve<P: Pages, S, E>(pages: P, mut accept: impl AsyncFnMut() -> Result<S, E>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    E: std::fmt::Display,
{
    let (pages, turns) = (Arc::new(pages), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        // never closed
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        match accept().await {
            Ok(stream) => {
                let pages = pages.clone();
                tokio::spawn(async move {
                    answer(stream, pages).await;
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                // out of descriptors: they come back as others close theirs
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer<P: Pages>(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, pages: Arc<P>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(respond(&request, &*pages).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection of a reader of metrics ended");
    }
}

async fn respond<P: Pages>(request: &Request<Incoming>, pages: &P) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    let Some(page) = pages.page(request.uri().path()).await else {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let mut response = Response::new(Full::from(page.text));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(page.kind));
    response
}
