//! `GET /containers/json`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EndpointSettings, MountPoint};
use crate::omit;

/// Docker's `container.Summary`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    pub id: String,
    pub names: Vec<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    pub command: String,
    /// Seconds since the epoch.
    pub created: i64,
    pub ports: Vec<Port>,
    #[serde(skip_serializing_if = "omit::none")]
    pub size_rw: Option<u64>,
    #[serde(skip_serializing_if = "omit::none")]
    pub size_root_fs: Option<u64>,
    pub labels: BTreeMap<String, String>,
    pub state: Cow<'static, str>,
    pub status: String,
    pub host_config: HostConfigSummary,
    pub network_settings: NetworksOnly,
    pub mounts: Vec<MountPoint>,
}

/// The part of the host configuration that lists show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostConfigSummary {
    pub network_mode: String,
    #[serde(skip_serializing_if = "omit::none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The networks, and nothing else of the network settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworksOnly {
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// An open port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Port {
    #[serde(rename = "IP", skip_serializing_if = "omit::zero")]
    pub ip: String,
    pub private_port: u16,
    #[serde(skip_serializing_if = "omit::zero")]
    pub public_port: u16,
    pub r#type: String,
}
