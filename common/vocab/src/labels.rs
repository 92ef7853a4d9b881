//! Labels: small string pairs on every record, and the names that mean something to the collector.

use std::collections::BTreeMap;

use wharf_kinds::Kind;

/// Labels of a record, ordered by key.
pub type Labels = BTreeMap<String, String>;

const MAX_SIZE: usize = 4096;
const SHOWN_KEY: usize = 64;

/// A label that is too large. The text is containerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "label key and value length ({total} bytes) greater than maximum size ({MAX_SIZE} bytes), key: {key}: invalid argument"
)]
pub struct LabelError {
    /// Bytes of key and value together.
    pub total: usize,
    /// The key, cut to 64 bytes.
    pub key: String,
}

impl LabelError {
    /// Always [`Kind::InvalidArgument`].
    pub const fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// Key and value together may have 4096 bytes.
pub fn validate_label(key: &str, value: &str) -> Result<(), LabelError> {
    let total = key.len() + value.len();
    if total <= MAX_SIZE {
        return Ok(());
    }
    let mut cut = key.len().min(SHOWN_KEY);
    while !key.is_char_boundary(cut) {
        cut -= 1;
    }
    Err(LabelError { total, key: key[..cut].to_owned() })
}

/// [`validate_label`] for each pair.
pub fn validate_labels<'a>(
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), LabelError> {
    labels.into_iter().try_for_each(|(k, v)| validate_label(k, v))
}

/// A filter's view of labels: the rest of the field path, joined by dots, is the key.
pub fn label_field<'a>(path: &[&str], labels: &'a Labels) -> Option<&'a str> {
    labels.get(&path.join(".")).map(String::as_str)
}

/// Label names with a meaning of their own, as containerd defines them.
pub mod label_names {
    /// The digest of a blob's uncompressed form.
    pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";
    /// Followed by the registry host; the value is a comma-separated list of repositories.
    pub const DISTRIBUTION_SOURCE: &str = "containerd.io/distribution.source.";
    /// A record with this label is never collected.
    pub const GC_ROOT: &str = "containerd.io/gc.root";
    /// A blob that this record keeps.
    pub const GC_REF_CONTENT: &str = "containerd.io/gc.ref.content";
    /// A snapshot that this record keeps, followed by the snapshotter's name.
    pub const GC_REF_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";
    /// An image that this record keeps.
    pub const GC_REF_IMAGE: &str = "containerd.io/gc.ref.image";
    /// RFC 3339 time after which a lease or an image holds nothing any more.
    pub const GC_EXPIRE: &str = "containerd.io/gc.expire";
    /// On a lease: only what the lease names is kept, not what that refers to.
    pub const GC_FLAT: &str = "containerd.io/gc.flat";
    /// On a snapshot being prepared: the chain id it will be committed as.
    pub const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
    /// On a namespace: labels that new objects of a kind take over.
    pub const NAMESPACE_SHAREABLE: &str = "containerd.io/namespace.shareable";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_key_and_value() {
        assert!(validate_label("k", &"v".repeat(4095)).is_ok());
        let error = validate_label("k", &"v".repeat(4096)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "label key and value length (4097 bytes) greater than maximum size (4096 bytes), key: k: invalid argument"
        );
    }

    #[test]
    fn a_long_key_is_cut_on_a_character() {
        let error = validate_label(&"é".repeat(3000), "").unwrap_err();
        assert_eq!(error.key.len(), 64);
    }
}
