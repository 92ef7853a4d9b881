//! An answer of the daemon, read whole or piece by piece.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::ClientError;
use super::client::Lease;

/// Answers that are read whole are refused beyond this.
const MAX_BODY: usize = 512 << 20;
/// Bodies of errors are read up to this.
pub(super) const MAX_ERROR: usize = 1 << 20;

/// A successful answer whose body may still be on its way.
pub(crate) struct Response {
    pub(super) act: String,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Incoming,
    pub(super) lease: Lease,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next piece of the body; None at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let Some(frame) = self.body.frame().await else {
                self.lease.give_back();
                return Ok(None);
            };
            let frame =
                frame.map_err(|bad| ClientError::Broken { act: self.act.clone(), text: bad.to_string() })?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
    }

    pub(crate) async fn bytes(mut self) -> Result<Vec<u8>, ClientError> {
        self.read_up_to(MAX_BODY).await
    }

    pub(super) async fn read_up_to(&mut self, limit: usize) -> Result<Vec<u8>, ClientError> {
        let mut out = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if out.len() + chunk.len() > limit {
                let text = format!("longer than {limit} bytes");
                return Err(ClientError::Unexpected { act: self.act.clone(), text });
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out)
    }

    /// Decodes the body as Go would: keys in any case, nulls as zero values.
    pub(crate) async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, ClientError> {
        let act = self.act.clone();
        let bytes = self.bytes().await?;
        decode(&act, &bytes)
    }
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(act: &str, bytes: &[u8]) -> Result<T, ClientError> {
    wharf_docker::decode::from_slice(bytes)
        .map_err(|bad| ClientError::Unexpected { act: act.to_owned(), text: bad.to_string() })
}

/// The text of an error answer: `{"message": …}`, or the body, or the status.
pub(super) fn error_text(status: StatusCode, body: &[u8]) -> String {
    if let Ok(serde_json::Value::Object(map)) = serde_json::from_slice(body)
        && let Some(message) = map.get("message").and_then(|message| message.as_str())
    {
        return message.trim().to_owned();
    }
    let text = String::from_utf8_lossy(body);
    match text.trim() {
        "" => {
            let reason = status.canonical_reason().unwrap_or("error");
            format!("{} {reason}", status.as_u16())
        }
        text => text.to_owned(),
    }
}
