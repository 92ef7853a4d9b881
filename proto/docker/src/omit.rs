//! Go's `omitempty` as predicates for `#[serde(skip_serializing_if = "…")]`.

/// True for the zero value: false, 0, "", an empty list or map, `None`.
pub fn zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// True for `None`; for types that have no equality.
pub fn none<T>(value: &Option<T>) -> bool {
    value.is_none()
}

/// True for an empty list; for elements that have no equality.
pub fn no_items<T>(value: &[T]) -> bool {
    value.is_empty()
}
