//! Content digests, `sha256:<64 hex>` and `sha512:<128 hex>`.
//!
//! Error texts are those of go-digest, since clients show and match them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use wharf_kinds::Kind;

/// A hash function that digests may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// Every algorithm, the default first.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// The name on the wire and in paths: `sha256`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal characters an encoded digest has.
    pub const fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }

    fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.as_str() == name)
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No colon, an empty part, or characters that no digest has.
    #[error("invalid checksum digest format")]
    Format,
    /// The hexadecimal part is too short or too long for its algorithm.
    #[error("invalid checksum digest length")]
    Length,
    /// An algorithm that is not offered here.
    #[error("unsupported digest algorithm")]
    Algorithm,
}

impl DigestError {
    /// Always [`Kind::InvalidArgument`].
    pub const fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// A validated digest. Cheap to clone; ordered and hashed by its text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Arc<str>);

impl Digest {
    /// Reads `algorithm:hex`; the hexadecimal part must be lower case.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let name_ok = !algorithm.is_empty() && algorithm.bytes().all(|b| word(b) || b"+._-".contains(&b));
        let hex_ok = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_alphanumeric() || b"=_-".contains(&b));
        if !name_ok || !hex_ok {
            return Err(DigestError::Format);
        }
        let algorithm = Algorithm::from_name(algorithm).ok_or(DigestError::Algorithm)?;
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::Length);
        }
        if !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(DigestError::Format);
        }
        Ok(Digest(text.into()))
    }

    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut digester = Digester::new(algorithm);
        digester.update(bytes);
        digester.finish()
    }

    /// The sha256 digest of `bytes`, the field's default.
    pub fn sha256(bytes: &[u8]) -> Self {
        Digest::of(Algorithm::Sha256, bytes)
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        // the text was validated when it was made, so only two prefixes occur
        if self.0.starts_with("sha512:") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// The hexadecimal part after the colon.
    pub fn hex(&self) -> &str {
        &self.0[self.algorithm().as_str().len() + 1..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        Digest::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        Digest::parse(&text)
    }
}

impl TryFrom<&str> for Digest {
    type Error = DigestError;
    fn try_from(text: &str) -> Result<Self, DigestError> {
        Digest::parse(text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0.as_ref().to_owned()
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A hash being computed over a stream.
#[derive(Clone)]
pub enum Digester {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Digester {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Digester::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Digester::Sha512(sha2::Sha512::new()),
        }
    }

    /// Takes the next bytes of the stream.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Digester::Sha256(h) => h.update(bytes),
            Digester::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of everything taken so far.
    pub fn finish(self) -> Digest {
        let (name, sum) = match self {
            Digester::Sha256(h) => ("sha256", hex::encode(h.finalize())),
            Digester::Sha512(h) => ("sha512", hex::encode(h.finalize())),
        };
        Digest(format!("{name}:{sum}").into())
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Digester::Sha256(_) => "Digester(sha256)",
            Digester::Sha512(_) => "Digester(sha512)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::sha256(b"").as_str(), EMPTY);
        assert_eq!(Digest::of(Algorithm::Sha512, b"").hex().len(), 128);
    }

    #[test]
    fn parts_of_a_digest_are_its_algorithm_and_hex() {
        let d = Digest::parse(EMPTY).unwrap();
        assert_eq!(d.algorithm(), Algorithm::Sha256);
        assert_eq!(d.hex(), &EMPTY[7..]);
    }

    #[test]
    fn malformed_digests_are_refused_with_go_digests_words() {
        for (text, want) in [
            ("", DigestError::Format),
            ("sha256", DigestError::Format),
            ("sha256:", DigestError::Format),
            (":abc", DigestError::Format),
            ("sha256:../../etc", DigestError::Format),
            ("sha256:abcd", DigestError::Length),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", DigestError::Algorithm),
        ] {
            assert_eq!(Digest::parse(text).unwrap_err(), want, "{text}");
        }
        assert_eq!(Digest::parse(&EMPTY.replace('e', "E")).unwrap_err(), DigestError::Format);
    }

    #[test]
    fn serde_refuses_what_parse_refuses() {
        assert!(serde_json::from_str::<Digest>(&format!("\"{EMPTY}\"")).is_ok());
        assert!(serde_json::from_str::<Digest>("\"sha256:zz\"").is_err());
    }
}
