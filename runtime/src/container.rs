//! The operations on containers.

pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod exec;
pub mod kill;
pub mod pause;
pub mod restore;
pub mod start;
pub mod status;

use crate::config::ConfigError;
use crate::handshake::HandshakeError;
use crate::hooks::HookError;
use crate::init::InitError;
use crate::process::ProcessError;
use crate::rootfs::RootfsError;
use crate::state::{Record, StateError};
use std::collections::HashMap;
use std::path::Path;
use wharf_cgroups::CgroupError;

/// Why an operation on a container failed. The texts are runc's where daemons parse them.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Rdt(#[from] crate::rdt::RdtError),
    #[error(transparent)]
    NetDevice(#[from] crate::net_devices::NetDeviceError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    Source(#[from] RootfsError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("unable to start container process: {0}")]
    Init(#[from] HandshakeError),
    #[error(transparent)]
    Criu(#[from] crate::criu::CriuError),
    #[error("{act}: {source}")]
    Act { act: String, source: std::io::Error },
    /// An operation that the container's status does not allow.
    #[error("{0}")]
    Refused(String),
    /// The operation failed, and so did undoing it.
    #[error("{error}; and then cleaning up failed: {cleanup}")]
    Cleanup { error: Box<ContainerError>, cleanup: String },
}

impl ContainerError {
    pub(crate) fn act<E: Into<std::io::Error>>(act: impl Into<String>) -> impl FnOnce(E) -> Self {
        let act = act.into();
        move |e| Self::Act { act, source: e.into() }
    }

    /// What init and the hooks on its way say, introduced as runc does for the start of a container.
    pub(crate) fn during_init(self) -> Self {
        match self {
            Self::Init(HandshakeError::Init(text)) => {
                Self::Init(HandshakeError::Init(format!("error during container init: {text}")))
            }
            other => other,
        }
    }

    /// Whether the caller lacks the right to do it.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Act { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
    }
}

impl From<InitError> for ContainerError {
    fn from(e: InitError) -> Self {
        Self::Refused(e.0)
    }
}

/// The state that hooks get on their stdin (runtime-spec, "State").
#[derive(Debug, Clone, Copy)]
pub struct HookState<'a> {
    pub oci_version: &'a str,
    pub id: &'a str,
    pub bundle: &'a Path,
    pub annotations: &'a HashMap<String, String>,
}

impl<'a> HookState<'a> {
    pub fn of(record: &'a Record) -> Self {
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            bundle: &record.bundle,
            annotations: &record.annotations,
        }
    }

    pub fn value(&self, status: &str, pid: i32) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "bundle": self.bundle,
        });
        if let Some(map) = state.as_object_mut() {
            if pid > 0 {
                map.insert("pid".into(), pid.into());
            }
            if !self.annotations.is_empty() {
                map.insert("annotations".into(), serde_json::json!(self.annotations));
            }
        }
        state
    }

    pub fn json(&self, status: &str, pid: i32) -> Vec<u8> {
        self.value(status, pid).to_string().into_bytes()
    }
}
