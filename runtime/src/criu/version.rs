//! CRIU's version, as its callers count it.

use super::CriuError;
use super::wire::fields;
use std::fmt;

/// Major, minor and sub level as one number: 31701 is 3.17.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// From message criu_version. What is built between two releases counts as the later one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut major, mut minor, mut sub, mut unreleased) = (0u32, 0u32, 0u32, false);
        for (number, field) in fields(bytes)? {
            let value = || field.number().and_then(|n| u32::try_from(n).ok());
            match number {
                1 => major = value()?,
                2 => minor = value()?,
                3 => unreleased = true,
                4 => sub = value()?,
                _ => {}
            }
        }
        let base = major.checked_mul(10_000)?.checked_add(minor.checked_mul(100)?)?;
        if unreleased { base.checked_add(100) } else { base.checked_add(sub) }.map(Self)
    }

    /// Refuses an older one than `least`.
    pub fn at_least(self, least: u32) -> Result<(), CriuError> {
        let least = Self(least);
        if self < least { Err(CriuError::TooOld { found: self, least }) } else { Ok(()) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::*;

    #[test]
    fn a_version_is_one_number() {
        let mut m = Message::default();
        m.number(1, 3).number(2, 17).number(4, 1);
        assert_eq!(Version::parse(m.as_bytes()), Some(Version(31_701)));
        m.text(3, "v3.17.1-12-gabc");
        assert_eq!(Version::parse(m.as_bytes()), Some(Version(31_800)));
        let mut absurd = Message::default();
        absurd.number(1, u64::from(u32::MAX));
        assert_eq!(Version::parse(absurd.as_bytes()), None);
    }

    #[test]
    fn an_older_one_is_refused_in_numbers() {
        Version(31_500).at_least(31_500).unwrap();
        let text = Version(21_200).at_least(30_000).unwrap_err().to_string();
        assert_eq!(text, "CRIU version 21200 must be 30000 or higher");
    }
}
