//! Why a spec cannot be built.

use wharf_kinds::Kind;

use crate::caps::CapError;
use crate::mounts::MountError;
use crate::resources::ResourceError;
use crate::seccomp::ProfileError;

/// A request that no container can be made of, or facts that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// `--cap-add`, `--cap-drop`.
    #[error(transparent)]
    Capability(#[from] CapError),
    /// The seccomp profile.
    #[error(transparent)]
    Seccomp(#[from] ProfileError),
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A limit.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// `--device-cgroup-rule`.
    #[error("invalid device cgroup rule format: '{0}'")]
    DeviceRule(String),
    /// `--ulimit`.
    #[error("invalid ulimit {name}: {reason}")]
    Ulimit {
        /// As given.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A custom profile on a kernel without seccomp.
    #[error("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")]
    NoSeccomp,
    /// `WritableCgroups` together with id mappings.
    #[error("option WritableCgroups conflicts with user namespaces and rootless mode")]
    WritableCgroups,
    /// There is no process to start.
    #[error("no command specified")]
    NoCommand,
    /// A fact of the host could not be read.
    #[error("read {path}: {source}")]
    Host {
        /// The file.
        path: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The host's own file says something else than the kernel documents.
    #[error("unexpected content of {path}: {content:?}")]
    HostContent {
        /// The file.
        path: &'static str,
        /// Its beginning.
        content: String,
    },
}

impl SpecError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            SpecError::Host { .. } | SpecError::HostContent { .. } => Kind::Internal,
            SpecError::NoSeccomp => Kind::FailedPrecondition,
            _ => Kind::InvalidArgument,
        }
    }
}
