//! Who asks.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;

use crate::error::RegistryError;

/// What the caller has for one registry. `Debug` shows the variant alone.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    #[default]
    Anonymous,
    /// For Basic authentication, or for the token service.
    Password { username: String, password: String },
    /// A refresh token that the token service gave at login.
    IdentityToken(String),
    /// A bearer token that goes to the registry as it is.
    RegistryToken(String),
    /// A whole `Authorization` header: scheme and parameters.
    Header(String),
}

/// Gives credentials for the hosts that ask for some, when they do.
pub trait AskCredentials: Send + Sync {
    /// What is to be used at `host` (`host[:port]`, such as `registry-1.docker.io`), which sent these
    /// `WWW-Authenticate` headers. Asked once for each host of a repository.
    fn ask<'a>(&'a self, host: &'a str, challenges: &'a [String]) -> Answer<'a>;
}

/// The outcome of [`AskCredentials::ask`].
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Credentials, RegistryError>> + Send + 'a>>;

/// Where credentials come from.
#[derive(Clone)]
pub enum CredentialSource {
    /// The registry's own, which go to no mirror and to no other host.
    Known(Credentials),
    Asked(Arc<dyn AskCredentials>),
}

impl From<Credentials> for CredentialSource {
    fn from(known: Credentials) -> Self {
        Self::Known(known)
    }
}

impl From<Arc<dyn AskCredentials>> for CredentialSource {
    fn from(asked: Arc<dyn AskCredentials>) -> Self {
        Self::Asked(asked)
    }
}

impl Credentials {
    /// Tells credentials apart in the token cache without keeping them there.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password",
            Self::IdentityToken(_) => "IdentityToken",
            Self::RegistryToken(_) => "RegistryToken",
            Self::Header(_) => "Header",
        })
    }
}
