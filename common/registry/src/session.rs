//! Requests to one endpoint about one repository, authenticated as the registry asks.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use crate::challenge::{Challenge, challenges};
use crate::client::Shared;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::token::{basic, bearer};
use crate::transport::{Outgoing, shown, spelled};

/// One endpoint, one scope, one set of credentials.
pub(crate) struct Session {
    shared: Arc<Shared>,
    pub endpoint: Endpoint,
    /// Such as `repository:library/busybox:pull`; empty for none.
    scope: String,
    credentials: Credentials,
    offered: Mutex<Vec<Challenge>>,
}

impl Session {
    /// Asks `/v2/` whether a registry is there and how it wants to be asked.
    pub async fn open(
        shared: Arc<Shared>,
        endpoint: Endpoint,
        scope: String,
        credentials: Credentials,
    ) -> Result<Self, RegistryError> {
        // credentials for a registry are not for its mirrors
        let credentials = if endpoint.mirror { Credentials::Anonymous } else { credentials };
        let offered = match shared.known_challenges(&endpoint.base) {
            Some(known) => known,
            None => {
                let url = join(&endpoint.base, "/v2/")?;
                let mut request = Outgoing::new(Method::GET, url);
                request.own = own_headers(&shared, &endpoint);
                let response = shared.transport.send(&request).await?;
                let found = challenges(response.headers());
                shared.learn_challenges(&endpoint.base, found.clone());
                found
            }
        };
        Ok(Self { shared, endpoint, scope, credentials, offered: Mutex::new(offered) })
    }

    /// The URL of `path` (from `/v2/` on) at this endpoint.
    pub fn url(&self, path: &str) -> Result<Url, RegistryError> {
        join(&self.endpoint.base, path)
    }

    /// Sends with authorization; a challenge in the answer is met once.
    pub async fn send(&self, mut request: Outgoing) -> Result<Response, RegistryError> {
        if request.url.origin() != self.url("/")?.origin() {
            // a place for uploads elsewhere, as the registry named it: what is for the registry is not for that host
            return self.shared.transport.send(&request).await;
        }
        request.own = own_headers(&self.shared, &self.endpoint);
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        request.authorization = self.authorization(&request, &offered, false).await?;
        let response = self.shared.transport.send(&request).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let asked = challenges(response.headers());
        // Basic with the same password fails again
        if asked.is_empty()
            || (request.authorization.is_some() && !asked.iter().any(|c| c.scheme == "bearer"))
        {
            return Ok(response);
        }
        drop(response);
        request.authorization = self.authorization(&request, &asked, true).await?;
        self.shared.learn_challenges(&self.endpoint.base, asked.clone());
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        self.shared.transport.send(&request).await
    }

    async fn authorization(
        &self,
        request: &Outgoing,
        offered: &[Challenge],
        fresh: bool,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        if let Credentials::RegistryToken(token) = &self.credentials {
            return bearer(token).map(Some);
        }
        let by_scheme = |scheme: &str| offered.iter().find(|c| c.scheme == scheme);
        if let Some(challenge) = by_scheme("bearer").filter(|c| c.parameter("realm").is_some()) {
            let scope = match challenge.parameter("scope") {
                // what this very request needs, in the registry's words
                Some(scope) if fresh => scope.to_owned(),
                _ => self.scope.clone(),
            };
            let transport = &self.shared.transport;
            return self
                .shared
                .tokens
                .header(transport, challenge, &scope, &self.credentials, fresh)
                .await
                .map(Some);
        }
        if by_scheme("basic").is_none() {
            return Ok(None);
        }
        match &self.credentials {
            Credentials::Password { username, password } => basic(username, password).map(Some),
            _ => Err(RegistryError::NoCredentials {
                method: spelled(&request.method),
                url: shown(&request.url),
            }),
        }
    }
}

fn own_headers(shared: &Shared, endpoint: &Endpoint) -> HeaderMap {
    if endpoint.mirror { HeaderMap::new() } else { shared.transport.config().headers.clone() }
}

fn join(base: &str, path: &str) -> Result<Url, RegistryError> {
    let text = format!("{base}{path}");
    match text.parse::<Url>() {
        Ok(url) if url.has_host() => Ok(url),
        _ => Err(RegistryError::Settings(format!("{text:?} is no URL"))),
    }
}
