//! Field masks: which parts of a record an update changes.

use wharf_vocab::{Labels, validate_labels};

use crate::error::MetadataError;

/// Applies one path of a mask to a map of labels: `labels` replaces it, `labels.k` sets one key.
/// Whether the path was about this map.
pub(crate) fn apply_to_map(path: &str, field: &str, current: &mut Labels, wanted: &Labels) -> bool {
    if path == field {
        current.clone_from(wanted);
        return true;
    }
    let Some(key) = path.strip_prefix(field).and_then(|rest| rest.strip_prefix('.')) else { return false };
    current.insert(key.to_owned(), wanted.get(key).cloned().unwrap_or_default());
    true
}

/// Labels whose mask is at most `labels` and `labels.k`; an empty mask replaces them all.
pub(crate) fn update_labels(
    current: &mut Labels,
    wanted: &Labels,
    mask: &[String],
    subject: impl Fn() -> String,
) -> Result<(), MetadataError> {
    if mask.is_empty() {
        current.clone_from(wanted);
    }
    for path in mask {
        if !apply_to_map(path, "labels", current, wanted) {
            return Err(MetadataError::Immutable { path: path.clone(), subject: subject() });
        }
    }
    Ok(())
}

/// Refuses labels that are too large, then drops those with an empty value: that is how a label is removed. What is
/// left must have a key.
pub(crate) fn settle_labels(labels: &mut Labels, field: &'static str) -> Result<(), MetadataError> {
    validate_labels(&*labels).map_err(|source| MetadataError::Label { field, source })?;
    labels.retain(|_, value| !value.is_empty());
    if labels.contains_key("") {
        return Err(MetadataError::Invalid(format!("{field}: key required")));
    }
    Ok(())
}
