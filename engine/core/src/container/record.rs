//! What is kept of a container across restarts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_docker::container::{Config, HostConfig, MountPoint, NetworkingConfig};
use wharf_docker::time::Time;

use super::phase::Phase;

/// A container's durable record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    pub created: Time,
    /// `sha256:…`
    pub image_id: String,
    /// Full name of the image's record; empty if it was found by id.
    pub image_name: String,
    pub os: String,
    /// The image's defaults merged in.
    pub config: Config,
    pub host: HostConfig,
    #[serde(default)]
    pub networking: NetworkingConfig,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The shim to run it with, such as `io.containerd.wharf.v2`.
    pub runtime: String,
    /// The OCI runtime's program; empty lets the shim choose.
    #[serde(default)]
    pub runtime_program: String,
    /// Binds, volumes and tmpfs, resolved.
    #[serde(default)]
    pub mounts: Vec<MountPoint>,
    /// Names of volumes that were made for this container alone.
    #[serde(default)]
    pub anonymous_volumes: Vec<String>,
    pub phase: Phase,
    #[serde(default)]
    pub restart_count: u64,
    /// A person stopped it: `unless-stopped` heeds that after a restart of the daemon.
    #[serde(default)]
    pub manually_stopped: bool,
    #[serde(default)]
    pub started_before: bool,
}

impl Record {
    /// Attributes of every event about the container: its labels, image and name.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.config.labels.clone().unwrap_or_default();
        attributes.insert("image".to_owned(), self.config.image.clone());
        attributes.insert("name".to_owned(), self.name.clone());
        attributes
    }

    /// Labels, or none.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.config.labels.clone().unwrap_or_default()
    }
}
