//! What can go wrong between the client and the daemon.

use std::io;

use http::StatusCode;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("Cannot connect to the Wharf daemon at {host}. Is wharfd running?")]
    Unreachable { host: String, source: io::Error },
    #[error("permission denied while trying to connect to the Wharf daemon socket at {host}: {source}")]
    Denied { host: String, source: io::Error },
    /// The daemon's own answer; the message is passed on as it is.
    #[error("Error response from daemon: {message}")]
    Daemon { status: StatusCode, message: String },
    /// The connection broke after it stood.
    #[error("error during connect: {act}: {text}")]
    Broken { act: String, text: String },
    #[error("unexpected answer from the daemon to {act}: {text}")]
    Unexpected { act: String, text: String },
}

impl ClientError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, ClientError::Daemon { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// The daemon is not there, or went away: a question may be asked again later.
    pub(crate) fn is_connection(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Broken { .. } => true,
            ClientError::Daemon { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            ClientError::Denied { .. } | ClientError::Unexpected { .. } => false,
        }
    }
}
