//! What the engine needs of images.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use engine_backend::{BackendError, Descriptor};
use wharf_kinds::Kind;

/// A future in a box, as trait objects return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where containers get their images from.
pub trait ImageSource: Send + Sync + 'static {
    /// Finds an image by any name a client may use: `name[:tag]`, `name@digest`, a full or short id. When it
    /// returns, the image's layers are unpacked, so that a snapshot can be prepared on [`ResolvedImage::chain_id`].
    /// `platform` is `os[/arch[/variant]]`.
    fn resolve<'a>(
        &'a self,
        reference: &'a str,
        platform: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ResolvedImage, ImageError>>;
}

/// An image that a container can be created from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvedImage {
    /// `sha256:…` of the image's config: Docker's image id.
    pub id: String,
    /// Full name of the record it was found by; empty if found by id only.
    pub name: String,
    pub manifest: Descriptor,
    /// Snapshot of the topmost layer; empty for an image without layers.
    pub chain_id: String,
    pub config: ImageConfig,
    pub os: String,
    pub architecture: String,
}

/// The `config` object of an image: defaults for its containers. All of it comes from the image and is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub working_dir: String,
    pub labels: BTreeMap<String, String>,
    /// Such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Paths in the container.
    pub volumes: Vec<String>,
    pub stop_signal: String,
    pub shell: Option<Vec<String>>,
    pub on_build: Vec<String>,
}

/// Why an image cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// The reference, as the client wrote it, with the default tag added where it had none.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The reference or platform cannot be parsed, or the image is damaged.
    #[error("{0}")]
    Invalid(String),
    /// The image is there, but not for this platform.
    #[error("{0}")]
    WrongPlatform(String),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl ImageError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) | Self::WrongPlatform(_) => Kind::NotFound,
            Self::Invalid(_) => Kind::InvalidArgument,
            Self::Backend(error) => error.kind(),
        }
    }
}
