//! Building the container's root filesystem, from inside its mount namespace.
//!
//! Every path is resolved below a directory descriptor of the root with openat2, and mounts are attached descriptor to
//! descriptor, so that whoever can write to the image or share a volume has nothing to race (security classes A).

pub mod copyup;
pub mod devices;
pub mod mask;
pub mod mount;
pub mod pivot;
pub mod procfs;
pub mod resolve;

use std::path::{Path, PathBuf};

/// What failed, on which path.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error("{act} {path:?}: {source}")]
    Act { act: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path:?}: {reason}")]
    Refused { path: PathBuf, reason: String },
    #[error("{at}: {source}")]
    Mount { at: String, source: Box<RootfsError> },
}

impl RootfsError {
    pub(crate) fn act(act: &'static str, path: impl AsRef<Path>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.as_ref().to_owned();
        move |e| Self::Act { act, path, source: e.into() }
    }
    pub(crate) fn io(act: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Act { act, path, source }
    }
    pub(crate) fn refused(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Refused { path: path.as_ref().to_owned(), reason: reason.into() }
    }
}
