//! Taking a connection out of HTTP: attach and exec streams.
//!
//! A route that wants the connection parks itself; the connection loop then takes the socket and what was read ahead
//! out of hyper and gives both to the route's continuation, which writes the response head itself. So both forms that
//! clients use, `101 UPGRADED` and a plain `200`, work the same way, and the socket can be given to another process.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::pin::Pin;

use http::HeaderMap;
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::version::ApiVersion;

type Continuation = Box<dyn FnOnce(Taken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A connection out of HTTP.
pub struct Taken {
    /// Blocking or not as the runtime left it: nonblocking.
    pub stream: UnixStream,
    /// Bytes the client sent after the request.
    pub buffered: Vec<u8>,
}

/// In every request's extensions: the way to its connection.
#[derive(Clone)]
pub struct Slot(pub(crate) mpsc::Sender<Request>);

/// A route that waits for its connection.
pub struct Request {
    pub(crate) go_on: Continuation,
}

impl Slot {
    /// Gives the connection to `go_on`, and never returns unless the connection cannot be taken.
    pub async fn take<F, Fut>(&self, go_on: F) -> ApiError
    where
        F: FnOnce(Taken) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let go_on: Continuation = Box::new(move |taken| Box::pin(go_on(taken)));
        if self.0.send(Request { go_on }).await.is_err() {
            return ApiError::new(wharf_kinds::Kind::Internal, "this connection cannot be taken over");
        }
        std::future::pending().await
    }
}

/// The head of the response that precedes a stream.
pub fn head(
    headers: &HeaderMap,
    version: ApiVersion,
    multiplexed: bool,
    standard: &[(&str, String)],
) -> Vec<u8> {
    let raw = "application/vnd.docker.raw-stream";
    let upgrade = headers.contains_key(http::header::UPGRADE);
    let mut text = if upgrade {
        let kind = if multiplexed && version.at_least(1, 42) {
            "application/vnd.docker.multiplexed-stream"
        } else {
            raw
        };
        format!("HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n")
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {raw}\r\n")
    };
    for (name, value) in standard {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_differ_by_upgrade_and_version() {
        let mut headers = HeaderMap::new();
        let (new, old) = (ApiVersion::NEWEST, ApiVersion::OLDEST);
        assert!(head(&headers, new, true, &[]).starts_with(b"HTTP/1.1 200 OK\r\n"));
        headers.insert(http::header::UPGRADE, "tcp".parse().unwrap());
        let text = String::from_utf8(head(&headers, new, true, &[])).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 101 UPGRADED\r\n") && text.contains("multiplexed-stream"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\n"));
        assert!(String::from_utf8(head(&headers, old, true, &[])).unwrap().contains("raw-stream"));
    }
}
