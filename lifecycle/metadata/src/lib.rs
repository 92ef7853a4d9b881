//! The lifecycle daemon's records, in one database: namespaces, containers, images, leases, and what there is of
//! content and snapshots; and the collector that removes what nothing refers to.
//!
//! Everything happens in a [`Scope`], which is an argument and never ambient. What is created in a scope with a
//! lease belongs to the lease in the same transaction.

mod activations;
mod collector;
mod containers;
mod content;
mod dirty;
mod error;
mod fields;
mod images;
mod leases;
mod namespaces;
mod outbox;
mod records;
mod sandboxes;
mod scope;
mod snapshots;
mod tables;

use std::path::Path;
use std::sync::Arc;

use wharf_store::{Database, Schema, StoreError};

pub use activations::Activations;
pub use collector::{CollectError, Collector, Reclaim, Removed, Schedule, Stats};
pub use containers::Containers;
pub use content::ContentRecords;
pub use error::{MetadataError, Subject};
pub use images::Images;
pub use leases::Leases;
pub use namespaces::Namespaces;
pub use outbox::{Change, DeliverError, Delivery, Event, LEFT_OVER};
pub use records::{
    Activation, ActiveMount, AnyValue, BlobInfo, Container, Descriptor, Image, IngestRecord, Lease,
    MountSpec, Namespace, Resource, Runtime, Sandbox, SnapshotInfo, SnapshotKind, SnapshotRecord, Usage,
};
pub use sandboxes::Sandboxes;
pub use scope::Scope;
pub use snapshots::{Commit, NewSnapshot, SnapshotRecords};

/// The records of one daemon; cheap to clone.
#[derive(Clone)]
pub struct Metadata {
    db: Database,
    dirty: Arc<dirty::Dirty>,
    outbox: Arc<outbox::Outbox>,
}

impl Metadata {
    /// Opens or creates `metadata.redb` in `root`, a directory that exists.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let db = Database::open(&root.join("metadata.redb"), Schema { name: "lifecycle", version: 1 })?;
        let metadata = Metadata { db, dirty: Arc::default(), outbox: Arc::default() };
        metadata.open_outbox()?;
        Ok(metadata)
    }

    pub fn namespaces(&self) -> Namespaces<'_> {
        Namespaces(self)
    }

    pub fn containers(&self) -> Containers<'_> {
        Containers(self)
    }

    pub fn sandboxes(&self) -> Sandboxes<'_> {
        Sandboxes(self)
    }

    pub fn images(&self) -> Images<'_> {
        Images(self)
    }

    pub fn leases(&self) -> Leases<'_> {
        Leases(self)
    }

    pub fn content(&self) -> ContentRecords<'_> {
        ContentRecords(self)
    }

    pub fn activations(&self) -> Activations<'_> {
        Activations(self)
    }

    pub fn snapshots(&self) -> SnapshotRecords<'_> {
        SnapshotRecords(self)
    }
}

#[cfg(test)]
mod tests;
