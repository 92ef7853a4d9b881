//! A lease for the length of one operation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use lifecycle_metadata::{Metadata, MetadataError, Scope};
use wharf_failpoints::{Point, hit};
use wharf_vocab::{Labels, label_names};

/// After a crash the lease holds what was brought in for so long, so that the operation can be taken up.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A scope with a lease. A lease made for it ends with it; one that the caller brought stays.
pub struct Held {
    metadata: Metadata,
    scope: Scope,
    own: bool,
}

impl Held {
    /// Blocks on the disk.
    pub fn new(metadata: &Metadata, scope: &Scope) -> Result<Self, MetadataError> {
        if scope.lease.is_some() {
            return Ok(Held { metadata: metadata.clone(), scope: scope.clone(), own: false });
        }
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let id = format!("transfer-{}-{}", since.as_nanos(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut labels = Labels::new();
        if let Some(expires) = now.checked_add(LIFETIME).and_then(|t| jiff::Timestamp::try_from(t).ok()) {
            labels.insert(label_names::GC_EXPIRE.to_owned(), format!("{expires:.0}"));
        }
        metadata.leases().create(scope, &id, labels)?;
        hit(Point::ImageLease);
        let scope = Scope::new(scope.namespace.clone(), Some(id));
        Ok(Held { metadata: metadata.clone(), scope, own: true })
    }

    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(lease) = self.scope.lease.clone().filter(|_| self.own) else { return };
        let (metadata, namespace) = (self.metadata.clone(), self.scope.namespace.clone());
        let end = move || {
            hit(Point::ImageLeaseEnd);
            // one that cannot be deleted now expires
            if let Err(error) = metadata.leases().delete(&Scope::new(namespace, None), &lease) {
                tracing::warn!(%error, lease, "ending the lease of a transfer");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => end(),
        }
    }
}
