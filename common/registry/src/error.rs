//! What can go wrong between here and a registry.

use std::fmt;
use std::time::Duration;

use wharf_kinds::Kind;
use wharf_vocab::Digest;

use crate::manifest::ManifestError;

/// An error that the registry itself reported, in the distribution specification's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Upper case with underscores, such as `MANIFEST_UNKNOWN`.
    pub code: String,
    /// The registry's words.
    pub message: String,
    /// The HTTP status it came with.
    pub status: u16,
    /// As Go spells it: `Get`, `Head`, `Post`.
    pub method: &'static str,
    /// Without query and user information.
    pub url: String,
    /// The `error` of the challenge that came along (RFC 6750 section 3.1), such as `insufficient_scope`.
    pub challenge: Option<String>,
    /// How long the registry wants to be left alone (`Retry-After`).
    pub retry_after: Option<Duration>,
}

impl fmt::Display for ApiError {
    /// `manifest unknown: manifest unknown`: the code in words, then the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.code.chars() {
            match letter {
                '_' => f.write_str(" ")?,
                other => write!(f, "{}", other.to_ascii_lowercase())?,
            }
        }
        write!(f, ": {}", self.message)
    }
}

/// Why a call to a registry failed. URLs in the texts have no query and no user information.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry refused, and said why.
    #[error("{0}")]
    Api(ApiError),
    /// The registry could not be reached, or the connection broke.
    #[error("{method} \"{url}\": {reason}")]
    Transport {
        /// As Go spells it: `Get`, `Head`, `Post`.
        method: &'static str,
        url: String,
        reason: String,
        /// Whether no connection was made at all.
        is_connect: bool,
    },
    /// The token service gave no token.
    #[error("{source}")]
    Token { is_anonymous: bool, source: Box<RegistryError> },
    /// Whoever was to give credentials did not.
    #[error("credentials for {host}: {reason}")]
    Credentials { host: String, reason: String },
    /// The operator's settings leave nobody to ask.
    #[error("no {what} hosts: not found")]
    NoHosts {
        /// `pull`, `resolve` or `push`.
        what: &'static str,
    },
    /// The registry wants Basic authentication and the caller has nothing to offer.
    #[error("{method} \"{url}\": no basic auth credentials")]
    NoCredentials { method: &'static str, url: String },
    /// A status that has no meaning here.
    #[error("received unexpected HTTP status: {status} from {method} \"{url}\"")]
    UnexpectedStatus {
        method: &'static str,
        url: String,
        /// Number and words.
        status: String,
        retry_after: Option<Duration>,
    },
    /// The answer is not what the specification promises.
    #[error("{method} \"{url}\": {reason}")]
    Malformed { method: &'static str, url: String, reason: String },
    /// The content is not what its digest says.
    #[error("filesystem layer verification failed for digest {expected}")]
    DigestMismatch { expected: Digest, actual: Digest },
    /// The content is longer or shorter than its descriptor says.
    #[error("content {digest} has {actual} bytes where its descriptor says {expected}")]
    SizeMismatch { digest: Digest, expected: u64, actual: u64 },
    /// An answer exceeds the bound for its kind.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge { what: String, limit: usize },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The host is neither on a loopback address nor listed as insecure.
    #[error("plain HTTP to {url} is refused: list the registry as insecure if that is meant")]
    PlainHttp { url: String },
    /// A redirect leads somewhere that is not allowed.
    #[error("redirect from {from} to {to} is not followed: {reason}")]
    Redirect { from: String, to: String, reason: &'static str },
    /// The client's own settings do not serve.
    #[error("registry settings: {0}")]
    Settings(String),
}

impl RegistryError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Api(api) => match (api.code.as_str(), api.status) {
                ("UNAUTHORIZED", _) => Kind::Unauthenticated,
                ("DENIED" | "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN", _) => Kind::NotFound,
                ("TOOMANYREQUESTS", _) | (_, 429) => Kind::ResourceExhausted,
                (_, 404) => Kind::NotFound,
                (_, 401) => Kind::Unauthenticated,
                (_, 403) => Kind::PermissionDenied,
                _ => Kind::Unknown,
            },
            Self::Transport { .. } => Kind::Unavailable,
            Self::Token { source, .. } => source.kind(),
            Self::NoHosts { .. } => Kind::NotFound,
            Self::Credentials { .. } => Kind::Unavailable,
            Self::NoCredentials { .. } => Kind::Unauthenticated,
            Self::UnexpectedStatus { .. } | Self::Malformed { .. } => Kind::Unknown,
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => Kind::DataLoss,
            Self::TooLarge { .. } => Kind::ResourceExhausted,
            Self::Manifest(error) => error.kind(),
            Self::PlainHttp { .. } | Self::Redirect { .. } => Kind::PermissionDenied,
            Self::Settings(_) => Kind::InvalidArgument,
        }
    }

    /// The registry's own report, if this is one.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(api) => Some(api),
            Self::Token { source, .. } => source.api(),
            _ => None,
        }
    }

    /// The HTTP status that the registry or its token service refused with.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api(api) => Some(api.status),
            Self::UnexpectedStatus { status, .. } => status.split(' ').next()?.parse().ok(),
            Self::Token { source, .. } => source.status(),
            _ => None,
        }
    }

    /// How long the registry wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(api) => api.retry_after,
            Self::UnexpectedStatus { retry_after, .. } => *retry_after,
            Self::Token { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    /// Whether no connection was made at all.
    pub(crate) fn is_connect(&self) -> bool {
        match self {
            Self::Transport { is_connect, .. } => *is_connect,
            Self::Token { source, .. } => source.is_connect(),
            _ => false,
        }
    }

    /// True if the same request may well succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Token { source, .. } => source.is_passing(),
            _ => self.status().is_some_and(is_passing),
        }
    }
}

/// Whether the status is about the moment and not about the request.
pub(crate) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// The status as HTTP writes it: `403 Forbidden`.
pub fn status_text(status: u16) -> String {
    reqwest::StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |status| status.to_string())
}
