//! The lines of progress streams (pull, load, import, push, build).

use serde::{Deserialize, Serialize};

use crate::omit;

/// Docker ends each JSON object of a stream so.
const LINE_END: &[u8] = b"\r\n";

/// How far one step is; all fields zero prints as `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// Bytes, unless `units` says otherwise.
    #[serde(skip_serializing_if = "omit::zero")]
    pub current: i64,
    /// The value of `current` at the end; 0 if it is not known.
    #[serde(skip_serializing_if = "omit::zero")]
    pub total: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub start: i64,
    #[serde(rename = "hidecounts", skip_serializing_if = "omit::zero")]
    pub hide_counts: bool,
    #[serde(skip_serializing_if = "omit::zero")]
    pub units: String,
}

/// Why the operation failed; the last line of a failed stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    #[serde(skip_serializing_if = "omit::zero")]
    pub code: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub message: String,
}

/// One line of a progress stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    #[serde(skip_serializing_if = "omit::zero")]
    pub stream: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub status: String,
    #[serde(rename = "progressDetail", skip_serializing_if = "omit::none")]
    pub progress_detail: Option<Detail>,
    /// What the line is about: a short layer id or a tag.
    #[serde(skip_serializing_if = "omit::zero")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "omit::none")]
    pub error_detail: Option<Failure>,
    /// The same text as in `error_detail`, which old clients read.
    #[serde(skip_serializing_if = "omit::zero")]
    pub error: String,
    #[serde(skip_serializing_if = "omit::none")]
    pub aux: Option<serde_json::Value>,
}

impl Message {
    /// A line that stays on the screen: `{"status":…}`, with an id if it is about something.
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self { id: id.into(), status: status.into(), ..Self::default() }
    }

    /// A line that replaces the one before it about the same id.
    pub fn progress(id: impl Into<String>, action: impl Into<String>, current: u64, total: u64) -> Self {
        let bounded = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let detail = Detail { current: bounded(current), total: bounded(total), ..Detail::default() };
        Self { progress_detail: Some(detail), ..Self::status(id, action) }
    }

    /// A line of plain output, as `load` prints.
    pub fn output(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }

    /// The line that ends a failed stream.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_detail: Some(Failure { code: 0, message: message.clone() }),
            error: message,
            ..Self::default()
        }
    }

    /// The bytes on the wire, line end included.
    pub fn to_line(&self) -> Vec<u8> {
        // a struct of strings and integers with string keys always encodes
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.extend_from_slice(LINE_END);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn lines_are_docker_s() {
        let text = |m: Message| String::from_utf8(m.to_line()).unwrap();
        assert_eq!(
            text(Message::status("latest", "Pulling from library/x")),
            "{\"status\":\"Pulling from library/x\",\"id\":\"latest\"}\r\n"
        );
        assert_eq!(
            text(Message::progress("abc", "Pull complete", 0, 0)),
            "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"abc\"}\r\n"
        );
        assert_eq!(
            text(Message::progress("abc", "Downloading", 5, 10)),
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":10},\"id\":\"abc\"}\r\n"
        );
        assert_eq!(
            text(Message::failure("no")),
            "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
    }
}
