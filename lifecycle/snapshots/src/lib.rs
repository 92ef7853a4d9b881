//! Snapshots: layered root filesystems on overlayfs or as whole copies, and unpacking layers into them.
//!
//! A snapshot is active (writable), a view (read-only) or committed. Only committed ones are parents. A directory is
//! made before its record and removed after it, so whatever has no record is garbage.

mod backend;
mod compare;
mod error;
mod flush;
mod layer;
mod mapping;
mod mount;
mod processor;
mod snapshotter;
mod unpack;

pub use compare::{CompareError, compare};
pub use error::SnapshotError;
pub use layer::{LayerError, apply_layer};
pub use mount::Mount;
pub use processor::{Processed, ProcessorError, Processors, StreamProcessor};
pub use snapshotter::{NATIVE, OVERLAYFS, Snapshotter};
pub use unpack::Layer;
pub use wharf_archive::{Applied, Compression, Limits};

#[cfg(test)]
mod tests;
