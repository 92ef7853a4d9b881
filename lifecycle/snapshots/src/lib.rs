//! Snapshots: layered root filesystems on overlayfs, and unpacking layers into them.
//!
//! A snapshot is active (writable), a view (read-only) or committed. Only committed ones are parents. A directory is
//! made before its record and removed after it, so whatever has no record is garbage.

mod error;
mod layer;
mod mount;
mod overlay;
mod snapshotter;

pub use error::SnapshotError;
pub use layer::{LayerError, apply_layer};
pub use mount::Mount;
pub use snapshotter::{OVERLAYFS, Snapshotter};

#[cfg(test)]
mod tests;
