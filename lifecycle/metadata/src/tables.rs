//! Every table of the database, and what its key parts are.

use serde::{Deserialize, Serialize};
use wharf_store::Table;
use wharf_vocab::Labels;

use crate::outbox::Event;
use crate::records::{Activation, BlobInfo, Container, Image, IngestRecord, Lease, Sandbox, SnapshotRecord};

/// What a container keeps alive.
#[derive(Serialize, Deserialize)]
pub(crate) struct ContainerHolds {
    pub(crate) id: String,
    pub(crate) labels: Labels,
    pub(crate) snapshotter: String,
    pub(crate) snapshot_key: String,
}

/// namespace
pub(crate) const NAMESPACES: Table<Labels> = Table::new("namespaces", 1);
/// namespace, id
pub(crate) const CONTAINERS: Table<Container> = Table::new("containers", 2);
/// The same records, without what they carry for others: specs are large.
pub(crate) const CONTAINER_HOLDS: Table<ContainerHolds> = Table::new("containers", 2);
/// namespace, id
pub(crate) const SANDBOXES: Table<Sandbox> = Table::new("sandboxes", 2);
/// namespace, name
pub(crate) const IMAGES: Table<Image> = Table::new("images", 2);
/// namespace, id
pub(crate) const LEASES: Table<Lease> = Table::new("leases", 2);
/// namespace, lease, kind of resource, resource
pub(crate) const LEASED: Table<()> = Table::new("leased", 4);
/// namespace, digest
pub(crate) const BLOBS: Table<BlobInfo> = Table::new("blobs", 2);
/// namespace, reference
pub(crate) const INGESTS: Table<IngestRecord> = Table::new("ingests", 2);
/// namespace, snapshotter, key
pub(crate) const SNAPSHOTS: Table<SnapshotRecord> = Table::new("snapshots", 3);
/// namespace, snapshotter, parent, child
pub(crate) const CHILDREN: Table<()> = Table::new("snapshot-children", 4);
/// namespace, name
pub(crate) const ACTIVATIONS: Table<Activation> = Table::new("activations", 2);
/// what is numbered
pub(crate) const SEQUENCES: Table<u64> = Table::new("sequences", 1);
/// number
pub(crate) const OUTBOX: Table<Event> = Table::new("outbox", 1);
