//! Bodies of `/images/…`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::omit;
use crate::time::Time;

/// One entry of `GET /images/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    /// Containers that use the image; −1 if they were not counted.
    pub containers: i64,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub id: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub parent_id: String,
    #[serde(skip_serializing_if = "omit::none")]
    pub descriptor: Option<Descriptor>,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    /// Bytes; −1 if not computed.
    pub shared_size: i64,
    /// Bytes.
    pub size: i64,
}

/// An OCI descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "omit::none")]
    pub platform: Option<Platform>,
}

/// An OCI platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "omit::zero")]
    pub os_version: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub variant: String,
}

/// `GET /images/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Inspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub comment: String,
    #[serde(skip_serializing_if = "omit::none")]
    pub created: Option<Time>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub author: String,
    pub config: Option<Config>,
    pub architecture: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub os_version: String,
    /// Bytes.
    pub size: i64,
    #[serde(skip_serializing_if = "omit::none")]
    pub graph_driver: Option<GraphDriver>,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: Metadata,
    #[serde(skip_serializing_if = "omit::none")]
    pub descriptor: Option<Descriptor>,
}

/// What an image says about how to run it; every field is left out when empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    #[serde(skip_serializing_if = "omit::zero")]
    pub user: String,
    /// Keys are `port/protocol`.
    #[serde(skip_serializing_if = "omit::zero")]
    pub exposed_ports: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub volumes: BTreeMap<String, Empty>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "omit::none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub on_build: Vec<String>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub shell: Vec<String>,
}

/// Go's `struct{}`: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How to find out whether a container is well. Durations are nanoseconds; 0 inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    #[serde(skip_serializing_if = "omit::zero")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub retries: i64,
}

/// Where the storage driver keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct GraphDriver {
    pub data: Option<BTreeMap<String, String>>,
    pub name: String,
}

/// The layers by the digests of their uncompressed archives, lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    #[serde(skip_serializing_if = "omit::zero")]
    pub r#type: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub layers: Vec<String>,
}

/// What this daemon knows of the image beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Metadata {
    #[serde(skip_serializing_if = "omit::zero")]
    pub last_tag_time: Time,
}

/// One entry of `GET /images/{name}/history`, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    pub comment: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub created_by: String,
    /// The image's id on the newest entry, `<missing>` on the others.
    pub id: String,
    pub size: i64,
    pub tags: Option<Vec<String>>,
}

/// One entry of the answers to delete and prune: one of the two is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Deleted {
    #[serde(skip_serializing_if = "omit::zero")]
    pub deleted: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub untagged: String,
}

/// `POST /images/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneReport {
    pub images_deleted: Option<Vec<Deleted>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// `GET /distribution/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Distribution {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}
