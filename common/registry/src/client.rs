//! The client: settings, connections and tokens that all repositories share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::sync::Semaphore;

use crate::answer;
use crate::challenge::Challenge;
use crate::config::Config;
use crate::credentials::{CredentialSource, Credentials};
use crate::endpoint::endpoints;
use crate::error::RegistryError;
use crate::repository::Repository;
use crate::scope::Scopes;
use crate::session::Session;
use crate::token::TokenCache;
use crate::transport::{Outgoing, Transport};

/// How long what a registry said about authentication is taken to hold.
const CHALLENGES_HOLD: Duration = Duration::from_secs(600);
const MAX_KNOWN: usize = 256;

pub(crate) struct Shared {
    pub transport: Arc<Transport>,
    pub tokens: TokenCache,
    /// Connections that large blobs take beside their first one.
    pub connections: Arc<Semaphore>,
    challenges: Mutex<HashMap<String, (Instant, Vec<Challenge>)>>,
}

impl Shared {
    pub fn known_challenges(&self, base: &str) -> Option<Vec<Challenge>> {
        let known = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(base).filter(|(at, _)| at.elapsed() < CHALLENGES_HOLD).map(|(_, c)| c.clone())
    }

    pub fn learn_challenges(&self, base: &str, challenges: Vec<Challenge>) {
        let mut known = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(base.to_owned(), (Instant::now(), challenges));
    }
}

/// A client of any number of registries. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// # Errors
    /// [`RegistryError::Settings`] if the settings cannot be used.
    pub fn new(config: Config) -> Result<Self, RegistryError> {
        if !(64 << 10..=64 << 20).contains(&config.ranges.chunk) {
            return Err(RegistryError::Settings("ranges have between 64 KiB and 64 MiB".into()));
        }
        let connections = Arc::new(Semaphore::new(config.ranges.connections));
        let transport = Transport::new(config);
        Ok(Self {
            shared: Arc::new(Shared {
                transport,
                connections,
                tokens: TokenCache::default(),
                challenges: Mutex::default(),
            }),
        })
    }

    /// The repository `path` (such as `library/busybox`) of the registry `domain` (such as `docker.io`), both as in
    /// a normalised image reference. Nothing is sent yet.
    pub fn repository(
        &self,
        domain: &str,
        path: &str,
        credentials: impl Into<CredentialSource>,
    ) -> Result<Repository, RegistryError> {
        let safe = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/:[]".contains(&b))
        };
        if !safe(domain)
            || !safe(path)
            || domain.contains('/')
            || path.split('/').any(|p| matches!(p, "" | "." | ".."))
        {
            return Err(RegistryError::Settings(format!("{domain:?}, {path:?} is no repository")));
        }
        Ok(Repository::new(self.shared.clone(), domain, path, credentials.into()))
    }

    /// Whether the registry accepts the credentials.
    pub async fn login(&self, domain: &str, credentials: Credentials) -> Result<(), RegistryError> {
        let mut last = None;
        for endpoint in endpoints(self.shared.transport.config(), domain).await? {
            if endpoint.mirror || endpoint.stands_for.is_some() {
                continue;
            }
            let source = credentials.clone().into();
            let session = match Session::open(self.shared.clone(), endpoint, Scopes::default(), source).await
            {
                Ok(session) => session,
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            let response = match session.send(Outgoing::new(Method::GET, session.url("/")?)).await {
                Err(error) if error.is_connect() => {
                    last = Some(error);
                    continue;
                }
                other => other?,
            };
            if response.status().is_success() {
                return Ok(());
            }
            return Err(answer::refusal(&Method::GET, response).await);
        }
        Err(last.unwrap_or_else(|| RegistryError::Settings(format!("no endpoint for {domain}"))))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
