//! Why a pull failed, in Docker's words.

use engine_backend::BackendError;
use wharf_kinds::Kind;
use wharf_registry::{ManifestError, RegistryError};
use wharf_vocab::ImageReference;

use crate::error::StoreError;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("'scratch' is a reserved name")]
    Reserved,
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {source}"
    )]
    Denied { repository: String, source: RegistryError },
    #[error("manifest for {reference} not found: {source}")]
    NoManifest { reference: String, source: RegistryError },
    #[error("repository {repository} not found: {source}")]
    NoRepository { repository: String, source: RegistryError },
    #[error(
        "{source} Suggest the author of {reference} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
    )]
    Schema1 { reference: String, source: RegistryError },
    #[error("{reference} is an index of indexes, which is not supported")]
    Nested { reference: String },
    #[error("cannot download image with operating system {found:?} when requesting {wanted:?}")]
    OperatingSystem { found: String, wanted: String },
    #[error("the pull was interrupted")]
    Interrupted,
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl PullError {
    /// A registry's refusal, told about the image that was asked for.
    pub(crate) fn registry(source: RegistryError, reference: &ImageReference) -> Self {
        let repository = || reference.familiar_name();
        if matches!(source, RegistryError::Manifest(ManifestError::Schema1)) {
            return Self::Schema1 { reference: reference.to_string(), source };
        }
        match source.api().map(|api| api.code.as_str()) {
            Some("DENIED") => Self::Denied { repository: repository(), source },
            Some("MANIFEST_UNKNOWN") => Self::NoManifest { reference: reference.familiar(), source },
            Some("NAME_UNKNOWN") => Self::NoRepository { repository: repository(), source },
            _ => Self::Registry(source),
        }
    }

    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Reserved => Kind::PermissionDenied,
            Self::Denied { .. } | Self::NoManifest { .. } | Self::NoRepository { .. } => Kind::NotFound,
            Self::Schema1 { .. } | Self::Nested { .. } | Self::OperatingSystem { .. } => {
                Kind::InvalidArgument
            }
            Self::Interrupted => Kind::Cancelled,
            Self::Registry(error) => match error.kind() {
                // a registry that cannot be reached is no fault of this daemon's being away: Docker says 500
                Kind::Unavailable => Kind::Unknown,
                other => other,
            },
            Self::Store(error) => error.kind(),
            Self::Backend(error) => error.kind(),
        }
    }
}
