//! Mounts as they are asked for, and as they came out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::omit;

/// A mount asked for with `--mount`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, `npipe`, `cluster`.
    #[serde(skip_serializing_if = "omit::zero")]
    pub r#type: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub source: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub target: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub read_only: bool,
    #[serde(skip_serializing_if = "omit::zero")]
    pub consistency: String,
    #[serde(skip_serializing_if = "omit::none")]
    pub bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "omit::none")]
    pub volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "omit::none")]
    pub image_options: Option<ImageOptions>,
    #[serde(skip_serializing_if = "omit::none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BindOptions {
    #[serde(skip_serializing_if = "omit::zero")]
    pub propagation: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub non_recursive: bool,
    #[serde(skip_serializing_if = "omit::zero")]
    pub create_mountpoint: bool,
    #[serde(skip_serializing_if = "omit::zero")]
    pub read_only_non_recursive: bool,
    #[serde(skip_serializing_if = "omit::zero")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    #[serde(skip_serializing_if = "omit::zero")]
    pub no_copy: bool,
    #[serde(skip_serializing_if = "omit::zero")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "omit::zero")]
    pub subpath: String,
    #[serde(skip_serializing_if = "omit::none")]
    pub driver_config: Option<Driver>,
}

/// A volume driver and its options.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Driver {
    #[serde(skip_serializing_if = "omit::zero")]
    pub name: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub options: BTreeMap<String, String>,
}

/// Options of a mounted image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageOptions {
    #[serde(skip_serializing_if = "omit::zero")]
    pub subpath: String,
}

/// Options of a tmpfs; size in bytes, mode as Go's `os.FileMode` bits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TmpfsOptions {
    #[serde(skip_serializing_if = "omit::zero")]
    pub size_bytes: i64,
    #[serde(skip_serializing_if = "omit::zero")]
    pub mode: u32,
    #[serde(skip_serializing_if = "omit::zero")]
    pub options: Vec<Vec<String>>,
}

/// A mount that the container has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountPoint {
    #[serde(skip_serializing_if = "omit::zero")]
    pub r#type: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "omit::zero")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
}
