//! Bodies of requests: nothing, JSON, or a file streamed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::sync::mpsc;

/// What a request carries.
#[derive(Clone, Debug)]
pub(crate) enum RequestBody {
    Empty,
    Json(Bytes),
}

impl RequestBody {
    /// Our own types always serialise; an error would be a map key that is no string.
    pub(crate) fn json<T: Serialize>(value: &T) -> Result<RequestBody, super::ClientError> {
        match serde_json::to_vec(value) {
            Ok(bytes) => Ok(RequestBody::Json(bytes.into())),
            Err(bad) => Err(super::ClientError::Unexpected {
                act: "encoding the request".to_owned(),
                text: bad.to_string(),
            }),
        }
    }

    pub(super) fn content_type(&self) -> Option<&'static str> {
        match self {
            RequestBody::Empty => None,
            RequestBody::Json(_) => Some("application/json"),
        }
    }

    pub(super) fn into_body(self) -> BoxBody<Bytes, io::Error> {
        match self {
            RequestBody::Empty => Empty::new().map_err(|never| match never {}).boxed(),
            RequestBody::Json(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
        }
    }
}

const CHUNK: usize = 128 << 10;

/// A body read from `source` by a thread of its own, at most a few chunks ahead of the socket.
pub(super) fn stream(source: impl io::Read + Send + 'static) -> BoxBody<Bytes, io::Error> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || read_all(source, &sender));
    Stream { receiver }.boxed()
}

fn read_all(mut source: impl io::Read, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let chunk = match source.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => Ok(Bytes::copy_from_slice(&buffer[..len])),
            Err(again) if again.kind() == io::ErrorKind::Interrupted => continue,
            Err(bad) => Err(bad),
        };
        let last = chunk.is_err();
        if sender.blocking_send(chunk).is_err() || last {
            return;
        }
    }
}

struct Stream {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.receiver.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}
