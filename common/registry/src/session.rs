//! Requests to one endpoint about one repository, authenticated as the registry asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};

use crate::answer::retry_after;
use crate::challenge::{Challenge, challenges};
use crate::client::Shared;
use crate::config::Retry;
use crate::credentials::{CredentialSource, Credentials};
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, is_passing};
use crate::scope::Scopes;
use crate::token::{Wish, basic, bearer, whole};
use crate::transport::{Outgoing, shown, spelled};

/// One endpoint, one scope, one set of credentials.
pub(crate) struct Session {
    shared: Arc<Shared>,
    pub endpoint: Endpoint,
    /// Such as `repository:library/busybox:pull`; empty for none.
    scopes: Scopes,
    credentials: CredentialSource,
    /// What was answered when credentials were asked for.
    answered: tokio::sync::OnceCell<Credentials>,
    offered: Mutex<Vec<Challenge>>,
}

impl Session {
    /// Finds out how the registry wants to be asked: at `/v2/`, where the settings say so.
    pub async fn open(
        shared: Arc<Shared>,
        endpoint: Endpoint,
        scopes: Scopes,
        credentials: CredentialSource,
    ) -> Result<Self, RegistryError> {
        // a registry's own credentials are not for those that stand in for it
        let is_other = endpoint.mirror || endpoint.stands_for.is_some();
        let credentials = match credentials {
            CredentialSource::Known(_) if is_other => Credentials::Anonymous.into(),
            asked_or_own => asked_or_own,
        };
        let mut session = Self {
            shared,
            endpoint,
            scopes,
            credentials,
            answered: tokio::sync::OnceCell::new(),
            offered: Mutex::default(),
        };
        let known = session.shared.known_challenges(&session.endpoint.base);
        if known.is_none() && session.shared.transport.config().greet {
            session.greet().await?;
        } else {
            session.offered = Mutex::new(known.unwrap_or_default());
        }
        Ok(session)
    }

    async fn greet(&self) -> Result<(), RegistryError> {
        let mut request = Outgoing::new(Method::GET, self.url("/")?);
        request.own = self.own_headers();
        let response = self.shared.transport.send(&request, &self.endpoint).await?;
        self.learn(challenges(response.headers()));
        Ok(())
    }

    fn learn(&self, found: Vec<Challenge>) {
        self.shared.learn_challenges(&self.endpoint.base, found.clone());
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The URL of `path` (below `/v2`) at this endpoint.
    pub fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let text = format!("{}{path}", self.endpoint.base);
        match text.parse::<Url>() {
            Ok(url) if url.has_host() => Ok(url),
            _ => Err(RegistryError::Settings(format!("{text:?} is no URL"))),
        }
    }

    /// Sends with authorization; a challenge in the answer is met once. What fails for a passing reason is sent
    /// again, with waits, unless another endpoint can be asked.
    pub async fn send(&self, mut request: Outgoing) -> Result<Response, RegistryError> {
        let is_own = request.url.origin() == self.url("/")?.origin();
        if is_own {
            request.own = self.own_headers();
            self.name_namespace(&mut request.url);
        }
        let retry = self.shared.transport.config().retry;
        let mut failures = 0;
        loop {
            let outcome = match is_own {
                true => self.send_authorized(&mut request).await,
                // a place for uploads elsewhere, as the registry named it: what is for the registry is not for that
                // host
                false => self.shared.transport.send(&request, &self.endpoint).await,
            };
            let asked = match &outcome {
                Ok(response) if is_passing(response.status().as_u16()) => retry_after(response.headers()),
                Err(error) if error.is_passing() && !error.is_connect() => error.retry_after(),
                _ => return outcome,
            };
            failures += 1;
            let Some(wait) = retry.wait(failures, asked).filter(|_| !request.once && self.is_last()) else {
                return outcome;
            };
            drop(outcome);
            tracing::debug!(url = shown(&request.url), failures, ?wait, "request failed, making it again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether nobody else can be asked instead.
    fn is_last(&self) -> bool {
        !self.endpoint.mirror && self.endpoint.stands_for.is_none()
    }

    /// A host that stands in for a registry is told for which one (`ns`, as containerd tells it).
    fn name_namespace(&self, url: &mut Url) {
        if let Some(domain) = &self.endpoint.stands_for
            && !url.query_pairs().any(|(name, _)| name == "ns")
        {
            url.query_pairs_mut().append_pair("ns", domain);
        }
    }

    async fn send_authorized(&self, request: &mut Outgoing) -> Result<Response, RegistryError> {
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        request.authorization = self.authorization(request, &offered, None).await?;
        let response = self.shared.transport.send(request, &self.endpoint).await?;
        // redirected elsewhere, the refusal is not about the registry's credentials
        let is_here = response.url().origin() == request.url.origin();
        if response.status() != StatusCode::UNAUTHORIZED || !is_here {
            return Ok(response);
        }
        let asked = challenges(response.headers());
        // Basic with the same password fails again
        if asked.is_empty()
            || (request.authorization.is_some() && !asked.iter().any(|c| c.scheme == "bearer"))
        {
            return Ok(response);
        }
        let raw = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let raw: Vec<String> = raw.filter_map(|h| h.to_str().ok().map(str::to_owned)).collect();
        self.ask_for_credentials(&raw).await?;
        let refused = request.authorization.take();
        let renewed = self.authorization(request, &asked, Some(refused.as_ref())).await?;
        self.learn(asked);
        if renewed.is_none() || renewed == refused {
            return Ok(response);
        }
        drop(response);
        request.authorization = renewed;
        self.shared.transport.send(request, &self.endpoint).await
    }

    /// The credentials in use: those asked for only once somebody wants them.
    async fn ask_for_credentials(&self, challenges: &[String]) -> Result<&Credentials, RegistryError> {
        match &self.credentials {
            CredentialSource::Known(known) => Ok(known),
            CredentialSource::Asked(source) => {
                self.answered.get_or_try_init(|| source.ask(&self.endpoint.host, challenges)).await
            }
        }
    }

    /// `refused` is the header that was refused just now, if this is the second try.
    async fn authorization(
        &self,
        request: &Outgoing,
        offered: &[Challenge],
        refused: Option<Option<&HeaderValue>>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let by_scheme = |scheme: &str| offered.iter().find(|c| c.scheme == scheme);
        let bearing = by_scheme("bearer").filter(|c| c.parameter("realm").is_some());
        let credentials = match &self.credentials {
            CredentialSource::Known(known) => known,
            CredentialSource::Asked(_) if offered.is_empty() => return Ok(None),
            CredentialSource::Asked(_) => {
                let shown: Vec<String> = offered.iter().map(Challenge::to_string).collect();
                self.ask_for_credentials(&shown).await?
            }
        };
        match credentials {
            Credentials::RegistryToken(token) => return bearer(token).map(Some),
            Credentials::Header(header) => return whole(header).map(Some),
            _ => {}
        }
        if let Some(challenge) = bearing {
            let mut scopes = self.scopes.clone().with(&request.scopes.to_string());
            if refused.is_some() {
                // what this very request needs, in the registry's words
                scopes = scopes.with(challenge.parameter("scope").unwrap_or_default());
            }
            let wish =
                Wish { endpoint: &self.endpoint, challenge, scopes, credentials, refused: refused.flatten() };
            return self.shared.tokens.header(&self.shared.transport, wish).await.map(Some);
        }
        if by_scheme("basic").is_none() {
            return Ok(None);
        }
        match credentials {
            Credentials::Password { username, password } => basic(username, password).map(Some),
            // the operator's header may be what is wanted
            _ if request.own.contains_key(reqwest::header::AUTHORIZATION) => Ok(None),
            _ => Err(RegistryError::NoCredentials {
                method: spelled(&request.method),
                url: shown(&request.url),
            }),
        }
    }

    fn own_headers(&self) -> HeaderMap {
        let mut headers = self.endpoint.headers.clone();
        if self.is_last() {
            headers.extend(self.shared.transport.config().headers.clone());
        }
        headers
    }
}

impl Retry {
    /// The wait before a request is made again after so many failures; None to give up.
    pub(crate) fn wait(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        match asked {
            Some(asked) if asked > Self::MAX_ASKED => None,
            Some(asked) => Some(asked.max(self.delay)),
            None => Some(self.delay_before(failures - 1)),
        }
    }
}
