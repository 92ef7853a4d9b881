//! Names of the daemon's image records, and what they mean here.

use wharf_vocab::{Digest, ImageReference};

/// Followed by a digest: the record of an image that has no name.
const DANGLING: &str = "dangling@";

/// The meaning of a record's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordName {
    /// `docker.io/library/debian:12`
    Tagged(ImageReference),
    /// `docker.io/library/debian@sha256:…`
    Digested(ImageReference),
    /// Anything else: the image has no name that Docker would show.
    Nameless,
}

impl RecordName {
    pub fn of(text: &str) -> Self {
        if text.starts_with(DANGLING) {
            return Self::Nameless;
        }
        match ImageReference::parse(text) {
            // a name that is not in normal form cannot be found by what a person types
            Ok(reference) if reference.to_string() != text => Self::Nameless,
            Ok(reference) if reference.digest().is_some() => Self::Digested(reference),
            Ok(reference) if reference.tag().is_some() => Self::Tagged(reference),
            _ => Self::Nameless,
        }
    }
}

/// The record that keeps a target without a name.
pub(crate) fn dangling(target: &Digest) -> String {
    format!("{DANGLING}{target}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let digest = Digest::sha256(b"");
        assert!(matches!(RecordName::of("docker.io/library/x:1"), RecordName::Tagged(_)));
        assert!(matches!(RecordName::of(&format!("docker.io/library/x@{digest}")), RecordName::Digested(_)));
        for text in [dangling(&digest).as_str(), "x:1", "docker.io/library/x", "", "import-2024"] {
            assert_eq!(RecordName::of(text), RecordName::Nameless, "{text}");
        }
    }
}
