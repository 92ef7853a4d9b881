//! Asking those that may be asked, in order, until one serves.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::endpoint::{Endpoint, endpoints};
use crate::error::RegistryError;
use crate::repository::{Act, Repository};
use crate::scope::Scopes;
use crate::session::Session;

/// One try at one endpoint.
pub(crate) type Attempt<'f, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'f>>;

impl Repository {
    /// Runs `act` at the endpoints that may be asked, in order, until one serves. From HTTPS the plain HTTP of the
    /// same host is gone on to only when no TLS was to be had.
    pub(crate) async fn over_endpoints<'f, T, F>(&self, what: Act, act: F) -> Result<T, RegistryError>
    where
        F: Fn(Arc<Session>) -> Attempt<'f, T> + Send + Sync,
    {
        let endpoints = self.endpoints(what).await?;
        let mut failure: Option<(u8, RegistryError)> = None;
        let mut left: VecDeque<_> = endpoints.iter().collect();
        while let Some((index, endpoint)) = left.pop_front() {
            let outcome = match self.session(*index, endpoint).await {
                Ok(session) => act(session).await,
                Err(error) => Err(error),
            };
            let error = match outcome {
                Err(error) => error,
                Ok(done) => {
                    self.no_twin(*index, endpoint);
                    return Ok(done);
                }
            };
            if error.is_connect() && !left.is_empty() {
                self.dead().insert(*index);
                if endpoint.has_plain_twin {
                    tracing::debug!(endpoint = %endpoint.base, %error, "no TLS to be had, trying without");
                    continue;
                }
            } else if endpoint.has_plain_twin {
                // it speaks TLS: what it said there counts
                self.no_twin(*index, endpoint);
                left.retain(|(other, _)| *other != index + 1);
            }
            if left.is_empty() {
                return Err(match failure {
                    // the first of those that got furthest
                    Some((rank, earlier)) if rank >= rank_of(&error) => earlier,
                    _ => error,
                });
            }
            tracing::debug!(endpoint = %endpoint.base, %error, "trying the next endpoint");
            let rank = rank_of(&error);
            if !endpoint.mirror && failure.as_ref().is_none_or(|(known, _)| rank > *known) {
                failure = Some((rank, error));
            }
        }
        Err(failure.map_or(RegistryError::NoHosts { what: what.as_str() }, |(_, error)| error))
    }

    /// A host that speaks TLS is never spoken to without.
    fn no_twin(&self, index: usize, endpoint: &Endpoint) {
        if endpoint.has_plain_twin {
            self.dead().insert(index + 1);
        }
    }

    fn dead(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.inner.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that may be asked, with their numbers.
    async fn endpoints(&self, what: Act) -> Result<Vec<(usize, Endpoint)>, RegistryError> {
        let inner = &*self.inner;
        let config = inner.shared.transport.config();
        let all = inner.endpoints.get_or_try_init(|| endpoints(config, &inner.domain)).await?;
        let may = |endpoint: &Endpoint| match what {
            Act::Pull => endpoint.can.pull,
            Act::Resolve => endpoint.can.pull && endpoint.can.resolve,
            Act::Push => endpoint.can.push && !endpoint.mirror,
        };
        let mut found: Vec<_> = all.iter().cloned().enumerate().filter(|(_, e)| may(e)).collect();
        if what == Act::Push {
            // one place alone, with what it has of TLS
            found.truncate(if found.first().is_some_and(|(_, e)| e.has_plain_twin) { 2 } else { 1 });
        }
        if found.is_empty() {
            return Err(RegistryError::NoHosts { what: what.as_str() });
        }
        let dead = self.dead();
        if found.iter().any(|(index, _)| !dead.contains(index)) {
            found.retain(|(index, _)| !dead.contains(index));
        }
        Ok(found)
    }

    /// The session at an endpoint; parallel callers share one ping.
    async fn session(&self, index: usize, endpoint: &Endpoint) -> Result<Arc<Session>, RegistryError> {
        let inner = &*self.inner;
        let mut sessions = inner.sessions.lock().await;
        if let Some(Some(known)) = sessions.get(index) {
            return Ok(known.clone());
        }
        let scopes = Scopes::default().with(&format!("repository:{}:{}", inner.path, inner.actions));
        let credentials = inner.credentials.clone();
        let made =
            Arc::new(Session::open(inner.shared.clone(), endpoint.clone(), scopes, credentials).await?);
        if sessions.len() <= index {
            sessions.resize(index + 1, None);
        }
        sessions[index] = Some(made.clone());
        Ok(made)
    }
}

/// How far an endpoint was got with before it failed.
fn rank_of(error: &RegistryError) -> u8 {
    match error {
        RegistryError::Transport { .. } | RegistryError::Token { .. } => 1,
        RegistryError::NoCredentials { .. } => 1,
        RegistryError::Api(api) if api.status == 404 => 2,
        _ => 3,
    }
}
