//! Who asks.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

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
        })
    }
}
