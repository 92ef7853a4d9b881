//! Why a blob was not read or written. Texts are containerd's where clients read them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lifecycle_metadata::MetadataError;
use wharf_kinds::Kind;
use wharf_vocab::Digest;

#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("{act} {}: {source}", path.display())]
    Io { act: &'static str, path: PathBuf, source: io::Error },
    #[error("blob {digest} has a record but no bytes: content damaged: {source}")]
    Missing { digest: Digest, source: io::Error },
    #[error("ref {reference} locked for {}s: unavailable", held.as_secs())]
    Locked { reference: String, held: Duration },
    #[error("unexpected commit size {found}, expected {wanted}: failed precondition")]
    Size { found: u64, wanted: u64 },
    #[error("unexpected commit digest {found}, expected {wanted}: failed precondition")]
    Digest { found: Digest, wanted: Digest },
    #[error("{reference:?} grows beyond its announced size of {total} bytes: out of range")]
    TooMuch { reference: String, total: u64 },
    #[error("cannot truncate {reference:?} to {wanted} bytes, it has {found}: out of range")]
    Truncate { reference: String, found: u64, wanted: u64 },
}

impl ContentError {
    pub fn kind(&self) -> Kind {
        match self {
            ContentError::Metadata(e) => e.kind(),
            ContentError::Io { source, .. } => match Kind::of_io(source) {
                // a file of ours that is not there is no answer to what the caller asked for
                Kind::NotFound | Kind::AlreadyExists => Kind::Internal,
                kind => kind,
            },
            ContentError::Missing { .. } => Kind::DataLoss,
            ContentError::Locked { .. } => Kind::Unavailable,
            ContentError::Size { .. } | ContentError::Digest { .. } => Kind::FailedPrecondition,
            ContentError::TooMuch { .. } | ContentError::Truncate { .. } => Kind::OutOfRange,
        }
    }

    pub(crate) fn io(act: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ContentError {
        let path = path.into();
        move |source| ContentError::Io { act, path, source }
    }
}
