//! Why mounts were not activated or deactivated.

use std::io;
use std::path::PathBuf;

use lifecycle_metadata::MetadataError;
use wharf_kinds::Kind;
use wharf_mounts::{LoopError, MountError};

#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The caller mounts them itself.
    #[error("none of the mounts is for the daemon to make: not implemented")]
    NothingToDo,
    #[error("{0}: invalid argument")]
    Invalid(String),
    #[error("{0}: not implemented")]
    Unsupported(String),
    #[error("{act} {}: {source}", path.display())]
    Io { act: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Loop(#[from] LoopError),
    #[error("{program} {}: {text}", path.display())]
    Format { program: String, path: PathBuf, text: String },
}

impl ActivateError {
    pub fn kind(&self) -> Kind {
        match self {
            ActivateError::Metadata(e) => e.kind(),
            ActivateError::NothingToDo | ActivateError::Unsupported(_) => Kind::Unimplemented,
            ActivateError::Invalid(_) => Kind::InvalidArgument,
            ActivateError::Io { source, .. } => own(source),
            ActivateError::Loop(e) => own(&e.source),
            ActivateError::Mount(MountError::Invalid { .. }) => Kind::InvalidArgument,
            ActivateError::Mount(e) => {
                e.os_error().map_or(Kind::Internal, |errno| own(&io::Error::from_raw_os_error(errno)))
            }
            ActivateError::Format { .. } => Kind::Internal,
        }
    }

    pub(crate) fn io<E: Into<io::Error>>(
        act: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> ActivateError {
        let path = path.into();
        move |source| ActivateError::Io { act, path, source: source.into() }
    }
}

/// A file that is not there is no answer to whether the activation is.
fn own(error: &io::Error) -> Kind {
    match Kind::of_io(error) {
        Kind::NotFound | Kind::AlreadyExists => Kind::Internal,
        kind => kind,
    }
}
