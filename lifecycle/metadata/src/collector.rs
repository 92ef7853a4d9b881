//! The collector: removes records that nothing refers to, then the bytes that no record refers to.
//!
//! Records are marked and swept in one transaction, so no writer comes between. The bytes go afterwards,
//! each store judging by the records and holding off its own writers.

mod conditions;
mod mark;
mod schedule;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use wharf_failpoints::{Point, hit};
use wharf_store::Write;

use crate::error::MetadataError;
use crate::outbox::Change;
use crate::tables::{BLOBS, IMAGES, INGESTS, SNAPSHOTS};
use crate::{Metadata, activations, leases, snapshots};

pub(crate) use mark::expiry;
pub use schedule::{CollectError, Collector, Schedule, Stats};

/// A store of bytes that can let go of those without a record.
pub trait Reclaim: Send + Sync {
    /// What it stores, for the log.
    fn name(&self) -> &'static str;

    /// Removes what no record refers to, and says how many things that were.
    fn reclaim(&self) -> Result<u64, Box<dyn std::error::Error + Send + Sync>>;
}

/// A record that the collector removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Removed {
    Content { namespace: String, digest: String },
    Snapshot { namespace: String, snapshotter: String, key: String },
    Image { namespace: String, name: String },
    Ingest { namespace: String, reference: String },
    Lease { namespace: String, id: String },
    Mount { namespace: String, name: String },
}

/// What a mark-and-sweep found.
pub(crate) struct Swept {
    pub(crate) removed: Vec<Removed>,
    /// When something will expire next.
    pub(crate) next_expiry: Option<SystemTime>,
}

impl Metadata {
    /// Removes every record that nothing refers to, at this time of day.
    pub(crate) fn sweep(&self, now: SystemTime) -> Result<Swept, MetadataError> {
        self.settle(|tx| {
            let marked = mark::mark(tx, now)?;
            hit(Point::CollectorMark);
            let removed = sweep_unmarked(tx, &marked.live)?;
            for one in &removed {
                match one {
                    Removed::Image { namespace, name } => {
                        self.announce(tx, namespace, Change::ImageDeleted { name: name.clone() })?;
                    }
                    Removed::Snapshot { namespace, snapshotter, key } => {
                        let (snapshotter, key) = (snapshotter.clone(), key.clone());
                        self.announce(tx, namespace, Change::SnapshotRemoved { snapshotter, key })?;
                    }
                    Removed::Content { .. }
                    | Removed::Ingest { .. }
                    | Removed::Lease { .. }
                    | Removed::Mount { .. } => {}
                }
            }
            Ok(Swept { removed, next_expiry: marked.next_expiry })
        })
    }
}

fn sweep_unmarked(tx: &Write, live: &HashSet<mark::Node>) -> Result<Vec<Removed>, MetadataError> {
    use mark::Node;
    let mut removed = Vec::new();
    for key in BLOBS.keys(tx, &[])? {
        let (namespace, digest) = (key[0].clone(), key[1].clone());
        if !live.contains(&Node::Content { namespace: namespace.clone(), digest: digest.clone() }) {
            BLOBS.remove(tx, &[&namespace, &digest])?;
            removed.push(Removed::Content { namespace, digest });
        }
    }
    for (key, record) in SNAPSHOTS.list(tx, &[])? {
        let [namespace, snapshotter, key] = [key[0].clone(), key[1].clone(), key[2].clone()];
        let node = Node::Snapshot {
            namespace: namespace.clone(),
            snapshotter: snapshotter.clone(),
            key: key.clone(),
        };
        if !live.contains(&node) {
            snapshots::erase(tx, &namespace, &snapshotter, &key, &record)?;
            removed.push(Removed::Snapshot { namespace, snapshotter, key });
        }
    }
    for key in IMAGES.keys(tx, &[])? {
        let (namespace, name) = (key[0].clone(), key[1].clone());
        if !live.contains(&Node::Image { namespace: namespace.clone(), name: name.clone() }) {
            IMAGES.remove(tx, &[&namespace, &name])?;
            removed.push(Removed::Image { namespace, name });
        }
    }
    for key in INGESTS.keys(tx, &[])? {
        let (namespace, reference) = (key[0].clone(), key[1].clone());
        if !live.contains(&Node::Ingest { namespace: namespace.clone(), reference: reference.clone() }) {
            INGESTS.remove(tx, &[&namespace, &reference])?;
            removed.push(Removed::Ingest { namespace, reference });
        }
    }
    for key in crate::tables::LEASES.keys(tx, &[])? {
        let (namespace, id) = (key[0].clone(), key[1].clone());
        if !live.contains(&Node::Lease { namespace: namespace.clone(), id: id.clone() }) {
            leases::erase(tx, &namespace, &id)?;
            removed.push(Removed::Lease { namespace, id });
        }
    }
    for key in crate::tables::ACTIVATIONS.keys(tx, &[])? {
        let (namespace, name) = (key[0].clone(), key[1].clone());
        if !live.contains(&Node::Mount { namespace: namespace.clone(), name: name.clone() }) {
            activations::erase(tx, &namespace, &name)?;
            removed.push(Removed::Mount { namespace, name });
        }
    }
    Ok(removed)
}

type OnRemoved = Arc<dyn Fn(&[Removed]) + Send + Sync>;

/// Deletions that come together are collected together.
const GATHER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
