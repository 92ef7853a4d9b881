//! A client of registries that speak the OCI distribution specification (and Docker's, which it grew from).
//!
//! A [`Client`] is made once and is cheap to clone. [`Client::repository`] gives the view of one repository with
//! one set of credentials; from it come descriptors, manifests and blobs. Every answer is bounded, every digest is
//! verified, and no credential shows in an error, a log line or `Debug`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use wharf_registry::{Client, Config, Credentials, Target};
//! let client = Client::new(Config::default())?;
//! let repository = client.repository("docker.io", "library/busybox", Credentials::Anonymous)?;
//! let manifest = repository.manifest(&Target::Tag("latest".into())).await?;
//! println!("{}", manifest.descriptor.digest);
//! # Ok(()) }
//! ```

mod answer;
mod blob;
mod challenge;
mod client;
mod config;
mod credentials;
mod endpoint;
mod error;
mod hosts;
mod manifest;
mod ranges;
mod repository;
mod scope;
mod session;
mod tls;
mod token;
mod transport;
mod upload;

pub use blob::Blob;
pub use client::Client;
pub use config::{
    Config, HeaderMap, HeaderName, HeaderValue, InsecureRule, InsecureRuleError, Ranges, Retry, Scheme,
};
pub use credentials::{Answer, AskCredentials, CredentialSource, Credentials};
pub use error::{ApiError, RegistryError, status_text};
pub use manifest::{
    Children, Descriptor, ImageManifest, Index, LayerEncoding, MAX_CONFIG, MAX_MANIFEST, Manifest,
    ManifestError, media_types,
};
pub use repository::{FetchedManifest, Repository, Target};
pub use upload::{Source, Uploaded};
