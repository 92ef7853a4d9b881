//! Why a record was not read or changed. Texts are containerd's: clients show them and match their endings.

use std::fmt;

use wharf_kinds::Kind;
use wharf_store::StoreError;
use wharf_vocab::{Digest, FilterError, IdentifierError, LabelError};

/// What an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Namespace(String),
    Container {
        id: String,
    },
    ContainerIn {
        id: String,
        namespace: String,
    },
    Image(String),
    ImageTarget {
        name: String,
        has: Digest,
        wanted: Digest,
    },
    Lease(String),
    Sandbox(String),
    /// The lease that a request names in its header.
    RequestLease,
    Content(Digest),
    ContentDigest(Digest),
    Ingest(String),
    Snapshot(String),
    MissingSnapshot(String),
    MissingParent(String),
    TargetSnapshot(String),
    Snapshotter(String),
    Mount(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Namespace(name) => write!(f, "namespace {name:?}"),
            Subject::Container { id } => write!(f, "container {id:?}"),
            Subject::ContainerIn { id, namespace } => {
                write!(f, "container {id:?} in namespace {namespace:?}")
            }
            Subject::Image(name) => write!(f, "image {name:?}"),
            Subject::ImageTarget { name, has, wanted } => {
                write!(f, "image {name:?} has target {has}, not {wanted}")
            }
            Subject::Sandbox(id) => write!(f, "sandbox {id:?}"),
            Subject::Lease(id) => write!(f, "lease {id:?}"),
            Subject::RequestLease => write!(f, "lease does not exist"),
            Subject::Content(digest) => write!(f, "content {digest}"),
            Subject::ContentDigest(digest) => write!(f, "content digest {digest}"),
            Subject::Ingest(reference) => write!(f, "reference {reference}"),
            Subject::Snapshot(key) => write!(f, "snapshot {key:?}"),
            Subject::MissingSnapshot(key) => write!(f, "snapshot {key} does not exist"),
            Subject::MissingParent(key) => write!(f, "parent snapshot {key} does not exist"),
            Subject::TargetSnapshot(key) => write!(f, "target snapshot {key:?}"),
            Subject::Mount(name) => write!(f, "mount {name:?}"),
            Subject::Snapshotter(name) => write!(f, "snapshotter {name:?}"),
        }
    }
}

/// Why a record was not read or changed; nothing of the change stands.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("{field}: {source}")]
    Label { field: &'static str, source: LabelError },
    #[error("{}{source}", field.map(|f| format!("{f}: ")).unwrap_or_default())]
    Identifier { field: Option<&'static str>, source: IdentifierError },
    #[error("{0}: not found")]
    NotFound(Subject),
    #[error("{0}: already exists")]
    AlreadyExists(Subject),
    #[error("cannot update {path:?} field on {subject}: invalid argument")]
    Immutable { path: String, subject: String },
    #[error("{0}: invalid argument")]
    Invalid(String),
    #[error("{0}: failed precondition")]
    Precondition(String),
    #[error("{0}: not implemented")]
    Unimplemented(String),
}

impl MetadataError {
    pub fn kind(&self) -> Kind {
        match self {
            MetadataError::Store(e) => e.kind(),
            MetadataError::Filter(_)
            | MetadataError::Label { .. }
            | MetadataError::Identifier { .. }
            | MetadataError::Immutable { .. }
            | MetadataError::Invalid(_) => Kind::InvalidArgument,
            MetadataError::NotFound(_) => Kind::NotFound,
            MetadataError::AlreadyExists(_) => Kind::AlreadyExists,
            MetadataError::Precondition(_) => Kind::FailedPrecondition,
            MetadataError::Unimplemented(_) => Kind::Unimplemented,
        }
    }
}
