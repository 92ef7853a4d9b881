//! Shapes that several services share.

use std::collections::BTreeMap;

/// Labels of containerd objects: keys and values are strings, together at most 4096 bytes a pair.
pub type Labels = BTreeMap<String, String>;

/// An OCI content descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Descriptor {
    pub media_type: String,
    /// `sha256:…`
    pub digest: String,
    /// Bytes.
    pub size: u64,
    pub annotations: BTreeMap<String, String>,
}

/// A mount as snapshotters describe it: what `mount(2)` takes, options as in fstab.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    pub kind: String,
    pub source: String,
    pub target: String,
    pub options: Vec<String>,
}
