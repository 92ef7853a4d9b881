//! The token service: bearer tokens for a scope, kept until they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::answer;
use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::scope::Scopes;
use crate::transport::{Outgoing, Transport};

const MAX_TOKEN_ANSWER: usize = 1 << 20;
const MAX_CACHED: usize = 1024;
/// The specification's lifetime for a token that names none.
const DEFAULT_LIFETIME: u64 = 60;
/// Time a request may take before the registry sees the token.
const LEEWAY: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "wharf";

/// What a token is asked of whom for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The registry that named the token service: another one's word is not taken for it.
    registry: String,
    realm: String,
    service: String,
    scopes: Scopes,
    credentials: u64,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

/// Held by whoever fetches the token; the others wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// Tokens by realm, service, scopes and credentials.
#[derive(Default)]
pub(crate) struct TokenCache(Mutex<HashMap<Key, Slot>>);

/// A token that is wanted.
pub(crate) struct Wish<'a> {
    pub endpoint: &'a Endpoint,
    pub challenge: &'a Challenge,
    pub scopes: Scopes,
    pub credentials: &'a Credentials,
    /// The header that the registry has just refused.
    pub refused: Option<&'a HeaderValue>,
}

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

/// An `Authorization` header that is given as a whole.
pub(crate) fn whole(text: &str) -> Result<HeaderValue, RegistryError> {
    secret_header(text)
}

fn secret_header(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        RegistryError::Settings("credentials have characters that HTTP does not allow".into())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl TokenCache {
    /// A bearer header that answers the challenge: one that is known unless it is the one that was refused.
    pub async fn header(&self, transport: &Transport, wish: Wish<'_>) -> Result<HeaderValue, RegistryError> {
        let Wish { endpoint, challenge, scopes, credentials, refused } = wish;
        let key = Key {
            registry: endpoint.base.clone(),
            realm: challenge.parameter("realm").unwrap_or_default().to_owned(),
            service: challenge.parameter("service").unwrap_or_default().to_owned(),
            scopes,
            credentials: credentials.fingerprint(),
        };
        let slot = self.slot(&key);
        let mut token = slot.lock().await;
        if let Some(known) = token.as_ref()
            && known.until > Instant::now()
            && Some(&known.header) != refused
        {
            return Ok(known.header.clone());
        }
        let is_anonymous = *credentials == Credentials::Anonymous;
        let fetched = fetch(transport, endpoint, &key, credentials).await;
        let (header, lifetime) =
            fetched.map_err(|source| RegistryError::Token { is_anonymous, source: Box::new(source) })?;
        let until = Instant::now() + lifetime.saturating_sub(LEEWAY);
        *token = Some(Token { header: header.clone(), until });
        Ok(header)
    }

    fn slot(&self, key: &Key) -> Slot {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_CACHED && !tokens.contains_key(key) {
            let now = Instant::now();
            let is_good = |slot: &Slot| match slot.try_lock() {
                Ok(token) => token.as_ref().is_some_and(|t| t.until > now),
                Err(_) => true,
            };
            tokens.retain(|_, slot| is_good(slot));
            if tokens.len() >= MAX_CACHED {
                tokens.clear();
            }
        }
        tokens.entry(key.clone()).or_default().clone()
    }
}

/// Asks with GET, or with POST (OAuth 2) where there is a refresh token; the other way where the service does not
/// know the one.
async fn fetch(
    transport: &Transport,
    endpoint: &Endpoint,
    key: &Key,
    credentials: &Credentials,
) -> Result<(HeaderValue, Duration), RegistryError> {
    let realm: Url = key.realm.parse().map_err(|_| {
        RegistryError::Settings(format!("the registry names no usable token service: {:?}", key.realm))
    })?;
    let (first, second) = match credentials {
        Credentials::IdentityToken(token) => {
            let grant = [("grant_type", "refresh_token"), ("refresh_token", token)];
            (by_form(realm.clone(), key, &grant), Some(by_query(realm, key, Some(("", token)))?))
        }
        Credentials::Password { username, password } => {
            let grant = [("grant_type", "password"), ("username", username), ("password", password)];
            let form = by_form(realm.clone(), key, &grant);
            (by_query(realm, key, Some((username, password)))?, Some(form))
        }
        _ => (by_query(realm, key, None)?, None),
    };
    match (ask(transport, endpoint, first).await, second) {
        (Err(error), Some(second)) if is_other_way_worth_a_try(&error) => {
            // what the first said is what counts if this fails too
            ask(transport, endpoint, second).await.map_err(|_| error)
        }
        (outcome, _) => outcome,
    }
}

fn is_other_way_worth_a_try(error: &RegistryError) -> bool {
    let unknown = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
    error.status().is_some_and(|status| unknown.iter().any(|u| u.as_u16() == status))
}

async fn ask(
    transport: &Transport,
    endpoint: &Endpoint,
    request: Outgoing,
) -> Result<(HeaderValue, Duration), RegistryError> {
    let url = request.url.clone();
    let method = request.method.clone();
    let response = transport.send(&request, endpoint).await?;
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

fn by_form(realm: Url, key: &Key, grant: &[(&str, &str)]) -> Outgoing {
    let scopes = key.scopes.to_string();
    let mut pairs = grant.to_vec();
    pairs.extend([("service", key.service.as_str()), ("scope", &scopes), ("client_id", CLIENT_ID)]);
    let mut request = Outgoing::new(Method::POST, realm);
    request.form = Some(encoded(&pairs));
    request.is_for_token = true;
    request
}

fn by_query(mut realm: Url, key: &Key, pair: Option<(&str, &str)>) -> Result<Outgoing, RegistryError> {
    {
        let mut query = realm.query_pairs_mut();
        if !key.service.is_empty() {
            query.append_pair("service", &key.service);
        }
        for scope in key.scopes.iter() {
            query.append_pair("scope", &scope);
        }
        if let Some((username, _)) = pair.filter(|(username, _)| !username.is_empty()) {
            query.append_pair("account", username);
        }
    }
    let mut request = Outgoing::new(Method::GET, realm);
    request.is_for_token = true;
    if let Some((username, password)) = pair {
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
