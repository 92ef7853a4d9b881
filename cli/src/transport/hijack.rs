//! Requests after whose answer the connection is a raw stream: attach and exec start.
//!
//! The exchange is written by hand: the socket itself is needed afterwards, with half-close, and old servers
//! answer `200 OK` without an upgrade.

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::RequestBody;
use super::client::{Client, USER_AGENT};
use super::response::{MAX_ERROR, error_text};
use super::url::Query;
use super::{ClientError, Endpoint, Socket, dial};

const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 64;

/// A stream to a process in a container.
pub(crate) struct Hijacked {
    pub(crate) socket: Socket,
    /// What came right behind the answer's head.
    pub(crate) early: Vec<u8>,
    /// `application/vnd.docker.raw-stream` or `…multiplexed-stream`; servers before API 1.42 always say raw.
    pub(crate) content_type: Option<String>,
}

struct Head {
    status: StatusCode,
    len: usize,
    content_type: Option<String>,
    content_length: Option<usize>,
    chunked: bool,
}

impl Client {
    /// Posts `body` to `path` and takes the connection over.
    pub(crate) async fn hijack(
        &self,
        path: &str,
        query: Query,
        body: RequestBody,
    ) -> Result<Hijacked, ClientError> {
        let target = format!("/v{}{path}{}", self.version().await?, query.as_str());
        let act = format!("POST {path}");
        let broken = |text: String| ClientError::Broken { act: act.clone(), text };
        let mut socket = dial::connect(self.endpoint()).await?;
        let request = self.head(&target, &body);
        socket.write_all(&request).await.map_err(|bad| broken(bad.to_string()))?;

        let mut buffer = Vec::with_capacity(4096);
        let head = loop {
            if let Some(head) = parse(&buffer).map_err(&broken)? {
                break head;
            }
            if buffer.len() > MAX_HEAD {
                return Err(broken("head of the answer too long".to_owned()));
            }
            let read = socket.read_buf(&mut buffer).await.map_err(|bad| broken(bad.to_string()))?;
            if read == 0 {
                return Err(broken("connection closed".to_owned()));
            }
        };
        let early = buffer.split_off(head.len);
        if matches!(head.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::OK) {
            return Ok(Hijacked { socket, early, content_type: head.content_type });
        }
        let body = error_body(&mut socket, early, &head).await.map_err(|bad| broken(bad.to_string()))?;
        Err(ClientError::Daemon { status: head.status, message: error_text(head.status, &body) })
    }

    fn head(&self, target: &str, body: &RequestBody) -> Vec<u8> {
        let base = match self.endpoint() {
            Endpoint::Tcp { base, .. } => base.as_str(),
            Endpoint::Unix(_) => "",
        };
        let mut head = format!(
            "POST {base}{target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n",
            self.host_header()
        );
        for (name, value) in self.extra_headers() {
            if !format!("{name}{value}").contains(['\r', '\n']) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let body: &[u8] = match body {
            RequestBody::Empty => &[],
            RequestBody::Json(bytes) => {
                head.push_str("Content-Type: application/json\r\n");
                bytes
            }
        };
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        request
    }
}

fn parse(buffer: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let len = match answer.parse(buffer).map_err(|bad| bad.to_string())? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(len) => len,
    };
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("no status")?;
    let header = |name: &str| {
        let found = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    Ok(Some(Head {
        status,
        len,
        content_type: header("content-type").map(str::to_owned),
        content_length: header("content-length").and_then(|value| value.trim().parse().ok()),
        chunked: header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")),
    }))
}

async fn error_body(socket: &mut Socket, early: Vec<u8>, head: &Head) -> std::io::Result<Vec<u8>> {
    let mut body = early;
    let complete = |body: &[u8]| match (head.content_length, head.chunked) {
        (Some(length), _) => body.len() >= length,
        (None, true) => body.ends_with(b"0\r\n\r\n"),
        (None, false) => false,
    };
    while !complete(&body) && body.len() < MAX_ERROR {
        if socket.read_buf(&mut body).await? == 0 {
            break;
        }
    }
    if head.chunked {
        body = dechunk(&body);
    }
    Ok(body)
}

/// The data of a chunked body as far as it is well formed.
fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Ok(httparse::Status::Complete((at, size))) = httparse::parse_chunk_size(body) {
        let Some(data) = usize::try_from(size).ok().and_then(|size| body.get(at..at.checked_add(size)?))
        else {
            break;
        };
        if data.is_empty() {
            break;
        }
        out.extend_from_slice(data);
        body = body.get(at + data.len() + 2..).unwrap_or_default();
    }
    out
}
