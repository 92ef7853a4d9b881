//! Where a request happens and what keeps alive what it creates.

/// A namespace, and the lease that new content, ingests and snapshots belong to.
///
/// Without a lease what is created may be collected as soon as nothing else refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub namespace: String,
    pub lease: Option<String>,
}

impl Scope {
    pub fn new(namespace: impl Into<String>, lease: Option<String>) -> Self {
        Scope { namespace: namespace.into(), lease }
    }
}
