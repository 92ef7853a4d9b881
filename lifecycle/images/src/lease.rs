//! A lease for the length of one operation.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lifecycle_metadata::{Metadata, MetadataError, Scope};
use wharf_failpoints::{Point, hit};
use wharf_vocab::{Labels, label_names};

/// After a crash the lease holds what was brought in for so long, so that the operation can be taken up.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// On the lease of a pull: of which reference. A later pull of it takes up what an earlier one has left.
const REFERENCE: &str = "wharf.transfer/reference";

/// Leases of operations that are under way in this process.
static UNDER_WAY: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn under_way() -> MutexGuard<'static, BTreeSet<String>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of a lease when its operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It ends, and what it alone holds is collected.
    Over,
    /// It stays until it expires: the operation was broken off and may be taken up.
    Interrupted,
    /// It ends, and with it those that earlier pulls of the reference have left.
    Complete,
}

/// A scope with a lease. A lease made for it ends with it; one that the caller brought stays.
pub struct Held {
    metadata: Metadata,
    scope: Scope,
    own: bool,
    reference: Option<String>,
    ending: Mutex<Ending>,
}

impl Held {
    /// For an operation, or for the pull of a reference. Blocks on the disk.
    pub fn new(metadata: &Metadata, scope: &Scope, reference: Option<&str>) -> Result<Self, MetadataError> {
        let held = |scope: Scope, own| Held {
            metadata: metadata.clone(),
            scope,
            own,
            reference: reference.map(str::to_owned),
            ending: Mutex::new(Ending::Over),
        };
        if scope.lease.is_some() {
            return Ok(held(scope.clone(), false));
        }
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let id = format!("transfer-{}-{}", since.as_nanos(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut labels = Labels::new();
        if let Some(expires) = now.checked_add(LIFETIME).and_then(|t| jiff::Timestamp::try_from(t).ok()) {
            labels.insert(label_names::GC_EXPIRE.to_owned(), format!("{expires:.0}"));
        }
        if let Some(reference) = reference {
            labels.insert(REFERENCE.to_owned(), reference.to_owned());
        }
        under_way().insert(id.clone());
        if let Err(error) = metadata.leases().create(scope, &id, labels) {
            under_way().remove(&id);
            return Err(error);
        }
        hit(Point::ImageLease);
        Ok(held(Scope::new(scope.namespace.clone(), Some(id)), true))
    }

    /// Says what becomes of the lease, should the operation end now.
    pub fn ends(&self, ending: Ending) {
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = ending;
    }

    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(lease) = self.scope.lease.clone().filter(|_| self.own) else { return };
        let ending = *self.ending.get_mut().unwrap_or_else(PoisonError::into_inner);
        under_way().remove(&lease);
        if ending == Ending::Interrupted {
            return;
        }
        let reference = self.reference.take().filter(|_| ending == Ending::Complete);
        let (metadata, scope) = (self.metadata.clone(), Scope::new(self.scope.namespace.clone(), None));
        let end = move || {
            hit(Point::ImageLeaseEnd);
            let left = reference.map(|reference| left_behind(&metadata, &scope, &reference));
            for lease in left.unwrap_or_default().into_iter().chain([lease]) {
                // one that cannot be deleted now expires
                if let Err(error) = metadata.leases().delete(&scope, &lease) {
                    tracing::warn!(%error, lease, "ending the lease of a transfer");
                }
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => end(),
        }
    }
}

/// Leases of pulls of the reference that were broken off.
fn left_behind(metadata: &Metadata, scope: &Scope, reference: &str) -> Vec<String> {
    let all = metadata.leases().list(scope, &[]).unwrap_or_default();
    let under_way = under_way();
    let is_left = |lease: &lifecycle_metadata::Lease| {
        lease.labels.get(REFERENCE).is_some_and(|of| of == reference) && !under_way.contains(&lease.id)
    };
    all.into_iter().filter(is_left).map(|lease| lease.id).collect()
}
