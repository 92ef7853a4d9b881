//! From Docker's header to what the registry client takes.

use wharf_docker::auth::AuthConfig;
use wharf_registry::Credentials;

/// The strongest of what a client sent: a registry token, an identity token, a password.
pub fn credentials(auth: &AuthConfig) -> Credentials {
    if !auth.registry_token.is_empty() {
        return Credentials::RegistryToken(auth.registry_token.clone());
    }
    if !auth.identity_token.is_empty() {
        return Credentials::IdentityToken(auth.identity_token.clone());
    }
    match auth.basic() {
        Some((username, password)) => Credentials::Password { username, password },
        None => Credentials::Anonymous,
    }
}
