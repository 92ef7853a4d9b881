//! Registry credentials as clients send them in the `X-Registry-Auth` header.

use std::fmt;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use crate::{decode, omit};

/// The header that carries an [`AuthConfig`] as base64url of its JSON.
pub const HEADER: &str = "X-Registry-Auth";

/// Clients differ in padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials for one registry. `Debug` shows none of the secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "lowercase")]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "omit::zero")]
    pub username: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub password: String,
    /// base64 of `username:password`.
    #[serde(skip_serializing_if = "omit::zero")]
    pub auth: String,
    #[serde(rename = "serveraddress", skip_serializing_if = "omit::zero")]
    pub server_address: String,
    /// A refresh token for the registry's token service.
    #[serde(rename = "identitytoken", skip_serializing_if = "omit::zero")]
    pub identity_token: String,
    /// A bearer token sent to the registry as it is.
    #[serde(rename = "registrytoken", skip_serializing_if = "omit::zero")]
    pub registry_token: String,
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}

impl AuthConfig {
    /// Reads the header's value. Docker ignores one that is malformed, and so does this: it gives the
    /// empty credentials.
    pub fn from_header(value: &str) -> Self {
        BASE64URL
            .decode(value.trim())
            .ok()
            .and_then(|json| decode::from_slice(&json).ok())
            .unwrap_or_default()
    }

    /// The header's value.
    pub fn to_header(&self) -> String {
        base64::engine::general_purpose::URL_SAFE.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Name and password, from whichever field has them.
    pub fn basic(&self) -> Option<(String, String)> {
        if !self.username.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let pair = base64::engine::general_purpose::STANDARD.decode(&self.auth).ok()?;
        let pair = String::from_utf8(pair).ok()?;
        let (name, password) = pair.split_once(':')?;
        (!name.is_empty()).then(|| (name.to_owned(), password.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::AuthConfig;

    #[test]
    fn header_round_trips_with_and_without_padding() {
        let auth = AuthConfig { username: "u".into(), password: "p>?".into(), ..AuthConfig::default() };
        let header = auth.to_header();
        assert_eq!(AuthConfig::from_header(&header), auth);
        assert_eq!(AuthConfig::from_header(header.trim_end_matches('=')), auth);
    }

    #[test]
    fn a_malformed_header_is_no_credentials() {
        assert_eq!(AuthConfig::from_header("!!"), AuthConfig::default());
        assert_eq!(AuthConfig::from_header(""), AuthConfig::default());
    }

    #[test]
    fn debug_hides_secrets() {
        let auth =
            AuthConfig { password: "hunter2".into(), identity_token: "hunter2".into(), ..Default::default() };
        assert!(!format!("{auth:?}").contains("hunter2"));
    }
}
