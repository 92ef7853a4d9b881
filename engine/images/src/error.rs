//! What can be wrong with an image that is stored.

use engine_backend::BackendError;
use wharf_kinds::Kind;
use wharf_registry::ManifestError;
use wharf_vocab::{Digest, Platform};

/// An image in the content store that cannot be read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Content that the image refers to is not there.
    #[error("image {image} lacks content {digest}")]
    Incomplete { image: Digest, digest: Digest },
    #[error("image {image} was not found for platform {platform}")]
    NoPlatform { image: Digest, platform: Platform },
    #[error("image {image}: {source}")]
    Manifest { image: Digest, source: ManifestError },
    #[error("image config {config} is malformed: {reason}")]
    Config { config: Digest, reason: String },
    /// A layer that unpacks to something other than its config says.
    #[error(
        "failed to register layer: layer {layer} unpacks to {actual} where the image's config says {expected}"
    )]
    WrongLayer { layer: Digest, expected: Digest, actual: String },
    #[error("failed to register layer: {source}")]
    Unpack { layer: Digest, source: BackendError },
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl StoreError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Incomplete { .. } | Self::NoPlatform { .. } => Kind::NotFound,
            Self::Manifest { source, .. } => source.kind(),
            Self::Config { .. } | Self::WrongLayer { .. } => Kind::InvalidArgument,
            Self::Unpack { source, .. } => match source.kind() {
                // a layer that cannot be unpacked is the image's fault
                Kind::Unknown | Kind::Internal | Kind::InvalidArgument => Kind::InvalidArgument,
                other => other,
            },
            Self::Backend(error) => error.kind(),
        }
    }
}
