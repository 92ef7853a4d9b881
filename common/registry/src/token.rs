//! The token service: bearer tokens for a scope, kept until they expire.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::answer;
use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::error::RegistryError;
use crate::transport::{Outgoing, Transport};

const MAX_TOKEN_ANSWER: usize = 1 << 20;
const MAX_CACHED: usize = 1024;
/// The specification's lifetime for a token that names none.
const DEFAULT_LIFETIME: u64 = 60;
/// Time a request may take before the registry sees the token.
const LEEWAY: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "wharf";

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    realm: String,
    service: String,
    scope: String,
    credentials: u64,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

/// Tokens by realm, service, scope and credentials.
#[derive(Default)]
pub(crate) struct TokenCache(Mutex<HashMap<Key, Token>>);

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// The `Authorization` header of Basic authentication.
pub(crate) fn basic(username: &str, password: &str) -> Result<HeaderValue, RegistryError> {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    secret_header(&format!("Basic {pair}"))
}

/// The `Authorization` header of a bearer token.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, RegistryError> {
    secret_header(&format!("Bearer {token}"))
}

fn secret_header(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        RegistryError::Settings("credentials have characters that HTTP does not allow".into())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl TokenCache {
    /// A bearer header that answers the challenge: from the cache unless `fresh` is asked for.
    pub async fn header(
        &self,
        transport: &Transport,
        challenge: &Challenge,
        scope: &str,
        credentials: &Credentials,
        fresh: bool,
    ) -> Result<HeaderValue, RegistryError> {
        let realm = challenge.parameter("realm").unwrap_or_default().to_owned();
        let service = challenge.parameter("service").unwrap_or_default().to_owned();
        let key = Key { realm, service, scope: scope.to_owned(), credentials: credentials.fingerprint() };
        if !fresh && let Some(header) = self.cached(&key) {
            return Ok(header);
        }
        let (header, lifetime) = fetch(transport, &key, credentials).await?;
        let until = Instant::now() + lifetime.saturating_sub(LEEWAY);
        self.keep(key, Token { header: header.clone(), until });
        Ok(header)
    }

    fn cached(&self, key: &Key) -> Option<HeaderValue> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(key).filter(|t| t.until > Instant::now()).map(|t| t.header.clone())
    }

    fn keep(&self, key: Key, token: Token) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_CACHED {
            let now = Instant::now();
            tokens.retain(|_, t| t.until > now);
            if tokens.len() >= MAX_CACHED {
                tokens.clear();
            }
        }
        tokens.insert(key, token);
    }
}

async fn fetch(
    transport: &Transport,
    key: &Key,
    credentials: &Credentials,
) -> Result<(HeaderValue, Duration), RegistryError> {
    let realm: Url = key.realm.parse().map_err(|_| {
        RegistryError::Settings(format!("the registry names no usable token service: {:?}", key.realm))
    })?;
    let request = match credentials {
        Credentials::IdentityToken(token) => {
            let form = encoded(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("service", &key.service),
                ("scope", &key.scope),
                ("client_id", CLIENT_ID),
            ]);
            let mut request = Outgoing::new(Method::POST, realm);
            request.form = Some(form);
            request
        }
        _ => by_query(realm, key, credentials)?,
    };
    let url = request.url.clone();
    let method = request.method.clone();
    let response = transport.send(&request).await?;
    if !response.status().is_success() {
        return Err(answer::refusal(&method, response).await);
    }
    let text = answer::body(response, MAX_TOKEN_ANSWER, "token answer").await?;
    let answer: TokenAnswer = serde_json::from_slice(&text)
        // the parser's own text could quote the token
        .map_err(|_| {
            answer::malformed(&method, &url, "the token service's answer is not what was expected")
        })?;
    let token = answer.token.filter(|t| !t.is_empty()).or(answer.access_token).unwrap_or_default();
    if token.is_empty() {
        return Err(answer::malformed(
            &method,
            &url,
            "authorization server did not include a token in the response",
        ));
    }
    let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(0).clamp(DEFAULT_LIFETIME, 86_400));
    Ok((bearer(&token)?, lifetime))
}

fn by_query(mut realm: Url, key: &Key, credentials: &Credentials) -> Result<Outgoing, RegistryError> {
    {
        let mut query = realm.query_pairs_mut();
        if !key.service.is_empty() {
            query.append_pair("service", &key.service);
        }
        if !key.scope.is_empty() {
            query.append_pair("scope", &key.scope);
        }
        if let Credentials::Password { username, .. } = credentials {
            query.append_pair("account", username);
        }
    }
    let mut request = Outgoing::new(Method::GET, realm);
    if let Credentials::Password { username, password } = credentials {
        request.authorization = Some(basic(username, password)?);
    }
    Ok(request)
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    // any URL serves to encode a form
    let Ok(mut url) = Url::parse("http://localhost/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
    url.query().unwrap_or_default().to_owned()
}
