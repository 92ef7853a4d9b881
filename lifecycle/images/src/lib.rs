//! Images between registries, archives, the content store and snapshots.
//!
//! A pull is one streaming pass a layer: what comes from the registry goes into the content store and, through the
//! decompressor, into a snapshot directory of its own at the same time, several layers side by side. DiffIDs are
//! checked, then the layers are committed in order under their chain ids. Whatever is brought in is held by a lease
//! until the image's name stands.

mod chain;
mod compress;
mod error;
mod export;
mod fetch;
mod images;
mod import;
mod labels;
mod lease;
mod order;
mod progress;
mod pull;
mod push;
mod tee;
mod tree;
mod unpack;
mod wording;

pub use error::ImagesError;
pub use export::{Export, Named};
pub use images::Images;
pub use import::Imported;
pub use lease::{Ending, Held};
pub use progress::{Progress, Update};
pub use tree::{Selection, Unpack};
pub use wharf_registry::Descriptor;
