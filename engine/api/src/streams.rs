//! Bodies that are written while the request is served.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Chunks that may wait for a slow client before its producer waits.
const WAITING: usize = 64;

/// The producer's end of a streamed body. Sending fails when the client is gone.
#[derive(Clone)]
pub struct Feed(mpsc::Sender<Bytes>);

impl Feed {
    /// Sends a chunk; false if nobody listens any more.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(bytes.into()).await.is_ok()
    }

    /// Resolves when the client is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A response whose body is fed through the other end. The head goes out at once, with an empty chunk of body behind.
pub fn streamed(status: StatusCode, content_type: &'static str) -> (Feed, Response) {
    let (send, receive) = mpsc::channel(WAITING);
    let body = Body::from_stream(ReceiverStream::new(receive).map(Ok::<Bytes, Infallible>));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    (Feed(send), response)
}
