//! snapshots: layered root filesystems (overlayfs)
