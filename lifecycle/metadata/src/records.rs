//! What the records hold. Times are wall-clock; sizes are bytes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use wharf_vocab::{Digest, Labels};

/// A protobuf `Any`, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AnyValue {
    pub type_url: String,
    #[serde(with = "bytes_as_base64")]
    pub value: Vec<u8>,
}

mod bytes_as_base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace {
    pub name: String,
    pub labels: Labels,
}

/// The runtime of a container: its name (`io.containerd.runc.v2`) and options of its own type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Runtime {
    pub name: String,
    pub options: Option<AnyValue>,
}

/// A container as containerd means it: what to run, not whether it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    pub id: String,
    pub labels: Labels,
    pub image: String,
    pub runtime: Runtime,
    pub spec: Option<AnyValue>,
    pub snapshotter: String,
    pub snapshot_key: String,
    pub extensions: BTreeMap<String, AnyValue>,
    pub sandbox: String,
    pub created: SystemTime,
    pub updated: SystemTime,
}

impl Default for Container {
    fn default() -> Self {
        Container {
            id: String::new(),
            labels: Labels::new(),
            image: String::new(),
            runtime: Runtime::default(),
            spec: None,
            snapshotter: String::new(),
            snapshot_key: String::new(),
            extensions: BTreeMap::new(),
            sandbox: String::new(),
            created: SystemTime::UNIX_EPOCH,
            updated: SystemTime::UNIX_EPOCH,
        }
    }
}

/// A sandbox as containerd means it: what a group of containers runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    pub id: String,
    pub labels: Labels,
    pub runtime: Runtime,
    pub spec: Option<AnyValue>,
    /// The controller that manages it.
    pub sandboxer: String,
    pub extensions: BTreeMap<String, AnyValue>,
    pub created: SystemTime,
    pub updated: SystemTime,
}

impl Default for Sandbox {
    fn default() -> Self {
        Sandbox {
            id: String::new(),
            labels: Labels::new(),
            runtime: Runtime::default(),
            spec: None,
            sandboxer: String::new(),
            extensions: BTreeMap::new(),
            created: SystemTime::UNIX_EPOCH,
            updated: SystemTime::UNIX_EPOCH,
        }
    }
}

/// What an image name points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: i64,
    #[serde(default)]
    pub annotations: Labels,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub name: String,
    pub labels: Labels,
    pub target: Descriptor,
    pub created: SystemTime,
    pub updated: SystemTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub id: String,
    pub labels: Labels,
    pub created: SystemTime,
}

/// Something that a lease keeps: `content`, `ingests`, `images` or `snapshots/<snapshotter>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub kind: String,
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobInfo {
    pub digest: Digest,
    pub size: u64,
    pub labels: Labels,
    pub created: SystemTime,
    pub updated: SystemTime,
}

/// A blob on its way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestRecord {
    pub reference: String,
    /// The name of its file, never used twice.
    pub id: u64,
    /// The size announced, 0 if none was.
    pub total: u64,
    /// A blob that is here already, from another namespace: committing needs no data.
    pub shared: Option<Digest>,
    pub started: SystemTime,
    /// When an ingest without a lease counts as abandoned.
    pub expires: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    View,
    Active,
    Committed,
}

impl SnapshotKind {
    /// The word in filters and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            SnapshotKind::View => "view",
            SnapshotKind::Active => "active",
            SnapshotKind::Committed => "committed",
        }
    }
}

/// What a layer takes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    pub size: u64,
    pub inodes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The name of its directory, never used twice.
    pub id: u64,
    pub kind: SnapshotKind,
    /// Empty for none.
    pub parent: String,
    pub labels: Labels,
    pub created: SystemTime,
    pub updated: SystemTime,
    /// Known once it has been asked for; only for committed ones, which do not change.
    pub usage: Option<Usage>,
}

/// A mount in the words of fstab.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MountSpec {
    pub kind: String,
    pub source: String,
    pub target: String,
    pub options: Vec<String>,
}

/// A mount that the daemon made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveMount {
    pub mount: MountSpec,
    /// Where it is.
    pub point: String,
    pub at: SystemTime,
    /// What the kind of mount has to say about it.
    pub data: BTreeMap<String, String>,
}

/// Mounts made on behalf of somebody who takes it from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// The name of its directory, never used twice.
    pub id: u64,
    pub lease: Option<String>,
    pub labels: Labels,
    pub created: SystemTime,
    pub updated: SystemTime,
    /// Everything is mounted.
    pub is_finished: bool,
    /// In the order in which they were mounted.
    pub active: Vec<ActiveMount>,
    /// What is left to mount.
    pub system: Vec<MountSpec>,
}

/// A snapshot with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    pub name: String,
    pub record: SnapshotRecord,
}
