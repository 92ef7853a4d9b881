//! Why an image was not brought in, unpacked or sent.

use std::io;

use lifecycle_content::ContentError;
use lifecycle_metadata::MetadataError;
use lifecycle_snapshots::{LayerError, SnapshotError};
use wharf_archive::{CompressionError, TarError};
use wharf_kinds::Kind;
use wharf_registry::{Descriptor, ManifestError, RegistryError};
use wharf_vocab::{Digest, Platform};

use crate::wording::{self, Act};

#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// In containerd's words; `subject` is the reference, or the blob with its media type.
    #[error("{}", wording::said(*.act, .subject, .source))]
    Registry { act: Act, subject: String, source: RegistryError },
    #[error("{digest}: {source}")]
    Document { digest: Digest, source: ManifestError },
    #[error("image config {digest}: {reason}")]
    Config { digest: Digest, reason: String },
    #[error("no match for platform {} in manifest {digest}: not found", spelled(.platforms))]
    NoMatch { digest: Digest, platforms: Vec<Platform> },
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("layer {digest}: {source}")]
    Layer { digest: Digest, source: LayerError },
    #[error("layer {layer} unpacks to {found} where the image config says {wanted}")]
    DiffId { layer: Digest, found: Digest, wanted: Digest },
    #[error("layer {wanted} has digest {found}")]
    Damaged { wanted: Digest, found: Digest },
    #[error("read {digest}: {source}")]
    Read { digest: Digest, source: io::Error },
    #[error("read the archive: {0}")]
    Tar(#[from] TarError),
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error("{0}: invalid argument")]
    Archive(String),
    #[error("write the archive: {0}")]
    Write(#[source] io::Error),
    #[error("the operation broke off")]
    Broken,
}

fn spelled(platforms: &[Platform]) -> String {
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

impl ImagesError {
    /// What a registry said to an act on `subject`.
    pub(crate) fn registry(act: Act, subject: &str) -> impl FnOnce(RegistryError) -> ImagesError {
        move |source| ImagesError::Registry { act, subject: subject.to_owned(), source }
    }

    /// What a registry said when the blob was fetched.
    pub(crate) fn fetch(blob: &Descriptor) -> impl FnOnce(RegistryError) -> ImagesError {
        let subject = format!("{} ({})", blob.digest, blob.media_type);
        move |source| ImagesError::Registry { act: Act::Fetch, subject, source }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Registry { source, .. } => source.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::Config { .. } | Self::Archive(_) => Kind::InvalidArgument,
            Self::NoMatch { .. } => Kind::NotFound,
            Self::Content(e) => e.kind(),
            Self::Metadata(e) => e.kind(),
            Self::Snapshot(e) => e.kind(),
            Self::Layer { source, .. } => source.kind(),
            Self::DiffId { .. } => Kind::InvalidArgument,
            Self::Damaged { .. } => Kind::DataLoss,
            Self::Read { source, .. } | Self::Write(source) => Kind::of_io(source),
            Self::Tar(e) => e.kind(),
            Self::Compression(e) => e.kind(),
            Self::Broken => Kind::Internal,
        }
    }
}
