//! The container's root filesystem: mounts as a snapshotter describes them.

use std::path::Path;

use wharf_containerd::containerd::types::Mount;

pub use wharf_mounts::{MountError, Planned, unmount_all};

use crate::reaper::Reaper;
use crate::userns;

/// Mounts them in order on `root`. On a failure those that were done are undone.
///
/// # Errors
/// Which mount the kernel refused.
pub fn execute(planned: &[Planned], root: &Path, reaper: &Reaper) -> Result<(), MountError> {
    wharf_mounts::execute_shifted(planned, root, &|mapping| userns::make(mapping, reaper))
}

/// Understands the mounts of a request; nothing is done yet.
///
/// # Errors
/// If a target leaves the root filesystem, or an option cannot be said to the kernel.
pub fn plan(mounts: &[Mount]) -> Result<Vec<Planned>, MountError> {
    let mounts: Vec<_> = mounts
        .iter()
        .map(|mount| wharf_mounts::Mount {
            kind: mount.r#type.clone(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            options: mount.options.clone(),
        })
        .collect();
    wharf_mounts::plan(&mounts)
}
