//! Why an archive could not be loaded.

use engine_backend::BackendError;
use wharf_kinds::Kind;
use wharf_registry::ManifestError;
use wharf_vocab::{Digest, ReferenceError};

use crate::error::StoreError;

/// Why an archive's images could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are no archive, or end early.
    #[error("cannot read the archive: {0}")]
    Archive(String),
    #[error("the archive holds no image: neither index.json nor manifest.json was found in it")]
    NoImage,
    #[error("{file} of the archive is malformed: {reason}")]
    Malformed { file: String, reason: String },
    #[error("the archive lacks {path}, which its {file} names")]
    Missing { file: &'static str, path: String },
    #[error("{path} of the archive is not what its name says: its digest is {actual}")]
    WrongDigest { path: String, actual: String },
    #[error("the archive's {what} exceed {limit}")]
    TooMuch { what: &'static str, limit: u64 },
    #[error("invalid tag {name:?}: {source}")]
    Name { name: String, source: ReferenceError },
    #[error("image {image}: {source}")]
    Manifest { image: Digest, source: ManifestError },
    #[error("the load was interrupted")]
    Interrupted,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl LoadError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Archive(_)
            | Self::NoImage
            | Self::Malformed { .. }
            | Self::Missing { .. }
            | Self::WrongDigest { .. }
            | Self::Name { .. } => Kind::InvalidArgument,
            Self::TooMuch { .. } => Kind::ResourceExhausted,
            Self::Manifest { source, .. } => source.kind(),
            Self::Interrupted => Kind::Cancelled,
            Self::Store(error) => error.kind(),
            Self::Backend(error) => error.kind(),
        }
    }
}
