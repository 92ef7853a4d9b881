//! The one error of the backend.

use wharf_kinds::Kind;

/// A call to the lifecycle daemon that failed: what was attempted, on what, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct BackendError {
    kind: Kind,
    /// The verb, such as `read content`.
    act: &'static str,
    /// What it was done to, such as a digest.
    subject: String,
    /// The daemon's own words, or what happened to the connection.
    message: String,
}

impl BackendError {
    pub(crate) fn new(kind: Kind, act: &'static str, subject: &str, message: impl Into<String>) -> Self {
        Self { kind, act, subject: subject.to_owned(), message: message.into() }
    }

    /// An error as the daemon would send it; for stand-ins in tests of other crates.
    pub fn test(kind: Kind, message: &str) -> Self {
        Self::new(kind, "test", "", message)
    }

    pub(crate) fn from_status(act: &'static str, subject: &str, status: &tonic::Status) -> Self {
        let kind = if is_broken_connection(status) {
            Kind::Unavailable
        } else {
            Kind::from_grpc_code(status.code() as i32)
        };
        let message = match kind {
            Kind::Unavailable => format!("lifecycle daemon went away while it was asked to {act} {subject}"),
            _ => status.message().to_owned(),
        };
        Self::new(kind, act, subject, message)
    }

    /// What to decide on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The verb that failed.
    pub fn act(&self) -> &'static str {
        self.act
    }

    /// What it was done to.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The daemon's text alone.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Shorthand for the commonest question.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }
}

/// A status made by our side of a broken connection, not sent by the daemon.
pub(crate) fn is_broken_connection(status: &tonic::Status) -> bool {
    use std::error::Error as _;
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<hyper::Error>() || error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    status.code() == tonic::Code::Unavailable
}
