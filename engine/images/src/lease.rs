//! A lease for as long as an operation runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine_backend::{Backend, BackendError, Labels, Lease};

/// An operation that outlives its daemon leaves its lease to the collector after this long.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Pauses between attempts to give a lease back: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// On each lease of ours: what it is for.
const OPERATION: &str = "wharf.engine/operation";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name that no other operation of this machine uses.
pub(crate) fn unique(prefix: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{prefix}-{now}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Holds a lease; given back when done, or in the background when dropped early.
pub(crate) struct LeaseGuard {
    backend: Backend,
    lease: Option<Lease>,
    known: Lease,
}

impl LeaseGuard {
    pub async fn take(backend: &Backend, purpose: &str) -> Result<Self, BackendError> {
        let labels = Labels::from([(OPERATION.to_owned(), purpose.to_owned())]);
        let lease = backend.lease_create(&unique(purpose), &labels, Some(LIFETIME)).await?;
        Ok(Self { backend: backend.clone(), known: lease.clone(), lease: Some(lease) })
    }

    pub fn lease(&self) -> &Lease {
        &self.known
    }

    /// Gives the lease back. Nobody waits if that fails: it is tried again in the background.
    pub async fn release(mut self) {
        if let Some(lease) = self.lease.take() {
            give_back(&self.backend, &lease, false).await;
        }
    }

    /// Gives the lease back and waits until the daemon has collected what it alone held.
    pub async fn discard(mut self) {
        if let Some(lease) = self.lease.take() {
            give_back(&self.backend, &lease, true).await;
        }
    }
}

/// Gives back what operations of a former process hold: none of them goes on. What they had fetched is collected.
pub(crate) async fn recover(backend: &Backend, started: SystemTime) -> Result<(), BackendError> {
    for lease in backend.lease_list(&[]).await? {
        if let Some(operation) = lease.labels.get(OPERATION)
            && lease.created_at < started
        {
            tracing::info!(lease = lease.id(), operation, "operation ended with the former process");
            backend.lease_delete(&lease, false).await?;
        }
    }
    Ok(())
}

/// What a lease holds takes up space, and the daemon may be full or away just now: giving it back is tried again
/// until it would expire anyway.
async fn give_back(backend: &Backend, lease: &Lease, sync: bool) {
    let Err(error) = backend.lease_delete(lease, sync).await else { return };
    tracing::warn!(lease = lease.id(), %error, "giving a lease back is tried again");
    let (backend, lease) = (backend.clone(), lease.clone());
    tokio::spawn(async move {
        let until = tokio::time::Instant::now() + LIFETIME;
        let mut pause = RETRY_FIRST;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(pause).await;
            match backend.lease_delete(&lease, false).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(lease = lease.id(), %error, "giving a lease back"),
            }
            pause = (pause * 2).min(RETRY_LAST);
        }
    });
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let backend = self.backend.clone();
        runtime.spawn(async move { give_back(&backend, &lease, false).await });
    }
}
