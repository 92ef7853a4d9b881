//! A registry on loopback whose every answer the test scripts.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What a handler sees of a request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub struct Fake {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    server: JoinHandle<()>,
}

impl Fake {
    pub async fn start<H>(handler: H) -> Fake
    where
        H: Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let handler = Arc::new(handler);
        let seen = asked.clone();
        let server = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (handler, seen) = (handler.clone(), seen.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (handler, seen) = (handler.clone(), seen.clone());
                        async move {
                            let asked = read(request).await;
                            seen.lock().unwrap().push(asked.clone());
                            Ok::<_, Infallible>(handler(&asked))
                        }
                    });
                    // a TLS greeting, or an answer cut short on purpose, ends in an error here
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Fake { address, asked, server }
    }

    pub fn domain(&self) -> String {
        self.address.to_string()
    }

    pub fn asked_for(&self, part: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|a| a.target.contains(part)).cloned().collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn read(request: Request<Incoming>) -> Asked {
    let (parts, body) = request.into_parts();
    let headers = parts
        .headers
        .iter()
        .map(|(k, v)| (k.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
        .collect();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    Asked {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// A whole answer.
pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let body = body.into();
    let mut builder = Response::builder().status(status).header("content-length", body.len());
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(http_body_util::Full::new(body).map_err(|never| match never {}).boxed_unsync()).unwrap()
}

/// An answer to HEAD: the headers of a body that is not sent.
pub fn head(status: u16, headers: &[(&str, &str)], length: usize) -> Response<Body> {
    let mut builder = Response::builder().status(status).header("content-length", length);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()).unwrap()
}

/// An answer that announces `announced` bytes (none: chunked), sends `sent`, and breaks the connection.
pub fn cut(status: u16, headers: &[(&str, &str)], announced: Option<usize>, sent: Bytes) -> Response<Body> {
    let mut builder = Response::builder().status(status);
    if let Some(announced) = announced {
        builder = builder.header("content-length", announced);
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    // the server flushes the data when it finds nothing after it, and only then is it cut
    let (frames, body) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let _ = frames.send(Ok(Frame::data(sent))).await;
        let _ = frames.send(Err(std::io::Error::other("cut"))).await;
    });
    builder.body(StreamBody::new(ReceiverStream::new(body)).boxed_unsync()).unwrap()
}
