//! Identifiers of containerd's objects: namespaces, containers, leases, tasks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wharf_kinds::Kind;

const MAX_LENGTH: usize = 76;

/// The rule as containerd's errors print it.
const PATTERN: &str = "^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$";

/// Why a text is not an identifier. The texts are containerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    #[error("identifier must not be empty: invalid argument")]
    Empty,
    #[error("identifier {0:?} greater than maximum length (76 characters): invalid argument")]
    TooLong(String),
    #[error("identifier {0:?} must match {PATTERN}: invalid argument")]
    Malformed(String),
}

impl IdentifierError {
    /// Always [`Kind::InvalidArgument`].
    pub const fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// A name of at most 76 characters: letters and digits, joined by single `.`, `_` or `-`.
///
/// It is safe as one component of a path: it is never `.` or `..` and holds no slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier(Arc<str>);

impl Identifier {
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        if text.is_empty() {
            return Err(IdentifierError::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(IdentifierError::TooLong(text.chars().take(256).collect()));
        }
        let separator = |b: u8| matches!(b, b'.' | b'_' | b'-');
        let mut after_separator = true;
        for b in text.bytes() {
            if separator(b) && !after_separator {
                after_separator = true;
            } else if b.is_ascii_alphanumeric() {
                after_separator = false;
            } else {
                return Err(IdentifierError::Malformed(text.into()));
            }
        }
        if after_separator {
            return Err(IdentifierError::Malformed(text.into()));
        }
        Ok(Identifier(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Identifier {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Identifier {
    type Err = IdentifierError;
    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        Identifier::parse(text)
    }
}

impl TryFrom<String> for Identifier {
    type Error = IdentifierError;
    fn try_from(text: String) -> Result<Self, IdentifierError> {
        Identifier::parse(&text)
    }
}

impl From<Identifier> for String {
    fn from(id: Identifier) -> String {
        id.0.as_ref().to_owned()
    }
}

impl Serialize for Identifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Identifier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Identifier::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_identifiers() {
        for ok in
            ["default", "Default", "default-default", "a.b_c-d", "0912341234", "k8s.io", &"a".repeat(76)]
        {
            assert!(Identifier::parse(ok).is_ok(), "{ok}");
        }
    }

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "a..b", "-a", "a-", "_", "a b", "é", "a\0b", &"a".repeat(77)] {
            assert!(Identifier::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_print_containerds_texts() {
        let text = Identifier::parse("a/b").unwrap_err().to_string();
        assert_eq!(
            text,
            r#"identifier "a/b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument"#
        );
    }
}
