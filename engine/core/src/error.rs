//! Why the engine refused or failed, in Docker's words where clients read them.

use engine_backend::BackendError;
use wharf_kinds::Kind;
use wharf_store::StoreError;

use crate::filter::FilterError;
use crate::image::ImageError;

/// What any operation on containers and execs can answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". \
         You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken { name: String, id: String },
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error("Container {0} is restarting, wait until the container is running")]
    Restarting(String),
    /// The request is wrong in itself.
    #[error("{0}")]
    Invalid(String),
    /// The request contradicts the container's state.
    #[error("{0}")]
    Conflict(String),
    /// Already as asked.
    #[error("{0}")]
    NotModified(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Unsupported(String),
    /// The runtime could not start the process; `code` is the exit code Docker gives it.
    #[error("{message}")]
    Start { code: i64, message: String, invalid: bool },
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("record of the engine: {0}")]
    Store(#[from] StoreError),
    /// Something of the host failed: the act and its subject, and why.
    #[error("{act}: {source}")]
    Host { act: String, source: std::io::Error },
    /// The container's mailbox is gone: it was removed meanwhile.
    #[error("{0}")]
    Gone(String),
    /// A fault of ours.
    #[error("{0}")]
    Internal(String),
}

impl EngineError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSuchContainer(_) | Self::NoSuchExec(_) | Self::NotFound(_) | Self::Gone(_) => {
                Kind::NotFound
            }
            Self::Ambiguous(_) | Self::Invalid(_) => Kind::InvalidArgument,
            Self::NameTaken { .. } | Self::NotRunning(_) | Self::Restarting(_) | Self::Conflict(_) => {
                Kind::Conflict
            }
            Self::NotModified(_) => Kind::NotModified,
            Self::Unsupported(_) => Kind::Unimplemented,
            Self::Start { invalid: true, .. } => Kind::InvalidArgument,
            Self::Start { .. } | Self::Internal(_) => Kind::Internal,
            Self::Backend(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Filter(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Host { source, .. } => match Kind::of_io(source) {
                Kind::ResourceExhausted => Kind::ResourceExhausted,
                _ => Kind::Internal,
            },
        }
    }

    pub(crate) fn host(act: impl Into<String>, source: std::io::Error) -> Self {
        Self::Host { act: act.into(), source }
    }
}

/// Turns what the runtime said about a failed start into Docker's exit code and status: clients find out from the
/// text whether a command was missing (127), could not be run (126) or anything else (128).
pub(crate) fn start_failure(error: &BackendError) -> EngineError {
    if error.kind() == Kind::Unavailable {
        return EngineError::Backend(error.clone());
    }
    let said = error.message().to_owned();
    let lower = said.to_lowercase();
    let (code, message, invalid) = if lower.contains("permission denied") {
        (126, said, true)
    } else if lower.contains("is a directory") {
        (126, format!("{said}: permission denied"), true)
    } else if lower.contains("not a directory") {
        let hint = "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host \
                    path exists and is the expected type";
        (127, format!("{said}: {hint}"), true)
    } else if [
        "executable file not found",
        "no such file or directory",
        "failed to run runc create/exec call",
    ]
    .iter()
    .any(|part| lower.contains(part))
    {
        (127, said, true)
    } else {
        (128, said, false)
    };
    EngineError::Start { code, message, invalid }
}
