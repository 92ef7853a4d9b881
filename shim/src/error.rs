//! What a method of the shim answers when it cannot do what was asked.

use std::fmt::Display;

use wharf_kinds::Kind;

/// A refusal with its kind; the text is containerd's where clients match on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TaskError {
    kind: Kind,
    text: String,
}

impl TaskError {
    /// An error of `kind` whose text ends with containerd's words for the kind, as its shim's do.
    pub fn new(kind: Kind, text: impl Display) -> Self {
        TaskError { kind, text: format!("{text}: {}", kind.containerd_text()) }
    }

    /// An error whose text is complete.
    pub fn verbatim(kind: Kind, text: impl Display) -> Self {
        TaskError { kind, text: text.to_string() }
    }

    /// A fault that has no kind of its own.
    pub fn failed(text: impl Display) -> Self {
        TaskError { kind: Kind::Unknown, text: text.to_string() }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}
