//! Layers: a compressed tar archive into a directory, in one streaming pass, with both digests.
//!
//! The archive is foreign data. Every path is resolved below the target by the kernel (`openat2` with
//! `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`), nothing is ever followed in its last component, headers and names are
//! bounded, and decompression happens in process.

mod apply;
mod compression;
mod copy;
mod diff;
mod extract;
mod tar;
mod tree;
mod write;

pub use apply::{Applied, ApplyError, Hashing, Limits, apply, apply_early};
pub use compression::{Compression, CompressionError, Compressor, Decompressor};
pub use copy::copy_tree;
pub use diff::{DiffError, TopLayer, write_diff};
pub use extract::{ExtractError, Pending, Whiteouts};
pub use tar::{Entry, EntryKind, TarError, TarReader};
pub use tree::{TreeUsage, remove_tree, tree_usage};
