//! The words every layer shares: references, digests, ids, platforms, labels, filters.
//!
//! Everything here is parsed once into a type; afterwards an invalid value cannot exist.

mod digest;
#[cfg(feature = "filter")]
mod filter;
mod identifier;
mod labels;
mod platform;
mod reference;

pub use digest::{Algorithm, Digest, DigestError, Digester};
#[cfg(feature = "filter")]
pub use filter::{Filter, FilterError};
pub use identifier::{Identifier, IdentifierError};
pub use labels::{LabelError, Labels, label_field, label_names, validate_label, validate_labels};
pub use platform::{Platform, PlatformError, PlatformMatcher};
pub use reference::{ImageReference, ReferenceError, is_tag};
