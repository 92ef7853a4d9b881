//! What can go wrong between this program and systemd.

use std::io;
use std::path::PathBuf;

use wharf_kinds::Kind;

/// A failed conversation with systemd.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Nobody listens.
    #[error("connect to systemd at {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing to connect to.
    #[error("no address of systemd is known")]
    NoAddress,
    /// The authentication was turned down.
    #[error("systemd at {} refused this user: {answer:?}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The line it answered.
        answer: String,
    },
    /// The connection broke.
    #[error("{act} {}: {source}", path.display())]
    Io {
        /// `read from`, `write to`
        act: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What came is not D-Bus, or not what was asked for.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// The socket.
        path: PathBuf,
        /// What came.
        what: &'static str,
    },
    /// No answer in time.
    #[error("systemd was too slow: no end of {what} after 30 s")]
    Late {
        /// What was waited for.
        what: String,
    },
    /// systemd answered with an error.
    #[error("systemd refused {method}: {text} ({name})")]
    Call {
        /// The method.
        method: String,
        /// The error's name.
        name: String,
        /// Its text.
        text: String,
    },
    /// The job ended otherwise than done.
    #[error("systemd did not do {method} of {unit}: {result}")]
    Job {
        /// The method.
        method: &'static str,
        /// The unit.
        unit: String,
        /// `canceled`, `timeout`, `failed`, `dependency`, `skipped`
        result: String,
    },
    /// The process that is to hold the unit open could not be made.
    #[error("{act} the process that holds the unit open: {source}")]
    Holder {
        /// What was tried.
        act: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SystemdError {
    /// Whether this is the D-Bus error of that name.
    pub fn is(&self, error: &str) -> bool {
        matches!(self, SystemdError::Call { name, .. } if name == error)
    }

    /// The error with the names of the properties that an annotation asked for, where systemd refused the call and
    /// named none of them: a value of the wrong type is only "Unexpected message contents" to it.
    pub(super) fn naming(mut self, properties: &[String]) -> SystemdError {
        if let SystemdError::Call { text, .. } = &mut self
            && !properties.is_empty()
            && !properties.iter().any(|name| text.contains(name.as_str()))
        {
            *text = format!("{text}; annotations ask for {}", properties.join(", "));
        }
        self
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            SystemdError::Connect { source, .. }
            | SystemdError::Io { source, .. }
            | SystemdError::Holder { source, .. } => Kind::of_io(source),
            SystemdError::NoAddress => Kind::FailedPrecondition,
            SystemdError::Refused { .. } => Kind::PermissionDenied,
            SystemdError::Malformed { .. } | SystemdError::Job { .. } => Kind::Internal,
            SystemdError::Late { .. } => Kind::DeadlineExceeded,
            SystemdError::Call { name, .. } => match name.rsplit('.').next().unwrap_or_default() {
                "UnitExists" => Kind::AlreadyExists,
                "InvalidArgs" | "PropertyReadOnly" | "ENXIO" => Kind::InvalidArgument,
                "AccessDenied" => Kind::PermissionDenied,
                _ => Kind::Internal,
            },
        }
    }
}
