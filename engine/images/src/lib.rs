//! Images as Docker means them, kept as records, content and snapshots of the lifecycle daemon.
//!
//! An image's id is the digest of its config. A record of the daemon names a manifest or an index; the records that
//! lead to one config are that image's names. A record `dangling@DIGEST` keeps an image that has lost its names.
//! Whatever is read from an image is data: it is parsed into types of its own, bounded, and never taken for a
//! setting of ours.

mod catalog;
mod changes;
mod credentials;
mod delete;
mod document;
mod embedded;
mod error;
mod glob;
mod history;
mod images;
mod import;
mod inspect;
mod keyed;
mod lease;
mod list;
mod load;
mod lookup;
mod name;
mod progress;
mod prune;
mod publish;
mod pull;
mod remote;
mod save;
mod size;
mod source;
mod stored;
mod tag;
mod unpack;

pub use changes::ChangeError;
pub use credentials::credentials;
pub use delete::{DeleteError, DeleteRequest};
pub use embedded::EmbeddedError;
pub use error::StoreError;
pub use images::{Images, ImagesConfig};
pub use import::{ImportError, ImportRequest};
pub use list::ListError;
pub use load::{LoadError, LoadRequest};
pub use lookup::LookupError;
pub use progress::Progress;
pub use prune::PruneError;
pub use pull::{PullError, PullRequest};
pub use save::{SaveError, SavedArchive};
pub use stored::StoredImage;
pub use tag::TagError;
