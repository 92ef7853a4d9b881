//! Why a snapshot was not made, changed or removed.

use std::io;
use std::path::PathBuf;

use lifecycle_metadata::MetadataError;
use wharf_kinds::Kind;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("{act} {}: {source}", path.display())]
    Io { act: &'static str, path: PathBuf, source: io::Error },
    #[error("requested snapshot {0} not active or view: failed precondition")]
    Committed(String),
    #[error("the directory {} holds characters that overlay mounts cannot say: {reason}", path.display())]
    Root { path: PathBuf, reason: &'static str },
    #[error(
        "label {label} {text:?} is no mapping <container id>:<host id>:<size>,… with the root user: invalid argument"
    )]
    Mapping { label: &'static str, text: String },
    #[error("snapshot {0:?} holds a copy of its parent and cannot be given another: failed precondition")]
    Rebase(String),
}

impl SnapshotError {
    pub fn kind(&self) -> Kind {
        match self {
            SnapshotError::Metadata(e) => e.kind(),
            SnapshotError::Io { source, .. } => match Kind::of_io(source) {
                // a directory of ours that is not there is no answer to what the caller asked for
                Kind::NotFound | Kind::AlreadyExists => Kind::Internal,
                kind => kind,
            },
            SnapshotError::Committed(_) => Kind::FailedPrecondition,
            SnapshotError::Rebase(_) => Kind::FailedPrecondition,
            SnapshotError::Root { .. } | SnapshotError::Mapping { .. } => Kind::InvalidArgument,
        }
    }

    pub(crate) fn io<E: Into<io::Error>>(
        act: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> SnapshotError {
        let path = path.into();
        move |source| SnapshotError::Io { act, path, source: source.into() }
    }
}
