//! Reading container logs: tail, since, until, timestamps, one or both streams, and following.
//!
//! The shim writes the files; this only reads them, so that logs are there for stopped containers and while any
//! daemon is being restarted. [`open`] gives a [`LogStream`] of chunks that are ready to be sent to a client, either
//! raw or in Docker's frames.

mod render;
mod stream;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use wharf_kinds::Kind;
pub use wharf_logs::{Format, Stamp, Start};

pub use stream::{LogStream, open};

/// Which log.
#[derive(Clone, Debug)]
pub struct LogSource {
    /// The live file; the rotated ones are beside it.
    pub path: PathBuf,
    pub format: Format,
}

/// What of a log, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct LogQuery {
    pub stdout: bool,
    pub stderr: bool,
    /// Records from this time on.
    pub since: Option<Stamp>,
    /// Records up to this time.
    pub until: Option<Stamp>,
    /// [`Start::Tail`] counts records of both streams, before anything else is left out, as Docker does.
    pub start: Start,
    /// Before each line its time, with nine digits after the second.
    pub timestamps: bool,
    /// Before each line the attributes that it was logged with.
    pub details: bool,
    pub framing: Framing,
    /// Go on with what is written later, until the container has ended.
    pub follow: bool,
}

impl Default for LogQuery {
    /// Everything there is, of both streams, in frames.
    fn default() -> Self {
        Self {
            stdout: true,
            stderr: true,
            since: None,
            until: None,
            start: Start::Oldest,
            timestamps: false,
            details: false,
            framing: Framing::Multiplexed,
            follow: false,
        }
    }
}

/// How bytes are laid on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// As written; for containers with a terminal.
    Raw,
    /// Docker's 8-byte header before each line.
    Multiplexed,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Read(#[from] wharf_logs::ReadError),
    #[error("log {}: watch for changes: {source}", path.display())]
    Watch { path: PathBuf, source: std::io::Error },
    #[error("reading the log was interrupted")]
    Interrupted,
}

impl LogError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read(_) => Kind::Internal,
            Self::Watch { source, .. } => Kind::of_io(source),
            Self::Interrupted => Kind::Cancelled,
        }
    }
}

/// Reads a time as Docker's clients send it in `since` and `until`: seconds since the epoch, with up to nine digits
/// after a point. None for an empty text and for `0`.
///
/// # Errors
/// The text, if it is anything else.
pub fn time_argument(text: &str) -> Result<Option<Stamp>, String> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let wrong =
        || format!("invalid timestamp {text:?}: want seconds since the epoch, or seconds.nanoseconds");
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let seconds: i64 = seconds.parse().map_err(|_| wrong())?;
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    let whole = seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(nanos)).ok_or_else(wrong)?;
    Ok(Some(Stamp(whole)))
}

/// How long until a time; zero if it is past.
fn until(stamp: Stamp) -> Duration {
    let left = i128::from(stamp.0) - i128::from(Stamp::now().0);
    u64::try_from(left.max(0)).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_sends_them() {
        assert_eq!(time_argument("").unwrap(), None);
        assert_eq!(time_argument("0").unwrap(), None);
        assert_eq!(time_argument("12").unwrap(), Some(Stamp(12_000_000_000)));
        assert_eq!(time_argument("12.5").unwrap(), Some(Stamp(12_500_000_000)));
        assert_eq!(time_argument("12.000000007").unwrap(), Some(Stamp(12_000_000_007)));
        for text in ["x", "1.", "1.x", "1.0123456789", "99999999999999999999", "9223372036854775807"] {
            assert!(time_argument(text).is_err(), "{text}");
        }
    }
}
