//! Instants as Go's `time.Time` prints them in JSON.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in UTC with nanoseconds, printed as Go's `time.RFC3339Nano` (no trailing zeros in the
/// fraction). The default is Go's zero time, which Docker prints for "never".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(jiff::Timestamp);

/// Seconds from 0001-01-01T00:00:00Z to the Unix epoch, negated.
const GO_ZERO: i64 = -62_135_596_800;

impl Time {
    /// Go's zero time, `0001-01-01T00:00:00Z`.
    pub const ZERO: Time = Time(jiff::Timestamp::constant(GO_ZERO, 0));

    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// `None` if the instant is outside the years −9999 to 9999.
    pub fn from_unix(seconds: i64, nanoseconds: i32) -> Option<Self> {
        jiff::Timestamp::new(seconds, nanoseconds).ok().map(Self)
    }

    /// Reads a date, or a date and time of day without an offset, in the host's local time zone.
    pub fn parse_local(text: &str) -> Option<Self> {
        let at = match text.parse::<jiff::civil::DateTime>() {
            Ok(at) => at,
            Err(_) => text.parse::<jiff::civil::Date>().ok()?.at(0, 0, 0, 0),
        };
        Some(Self(at.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp()))
    }

    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_second()
    }

    /// Nanoseconds since the Unix epoch.
    pub fn unix_nanoseconds(self) -> i128 {
        self.0.as_nanosecond()
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<SystemTime> for Time {
    /// An instant that the calendar cannot hold becomes [`Time::ZERO`].
    fn from(at: SystemTime) -> Self {
        jiff::Timestamp::try_from(at).map_or(Self::ZERO, Self)
    }
}

impl From<Time> for SystemTime {
    fn from(at: Time) -> Self {
        at.0.into()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no RFC 3339 instant.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a time in RFC 3339 form")]
pub struct ParseTimeError {
    text: String,
}

impl FromStr for Time {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        jiff::Timestamp::from_str(text)
            .map(Self)
            .map_err(|_| ParseTimeError { text: text.chars().take(64).collect() })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Ok(Self::ZERO);
        }
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Time;

    #[test]
    fn prints_as_go_does() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, 120_000_000, "2023-11-14T22:13:20.12Z"),
            (1_700_000_000, 1, "2023-11-14T22:13:20.000000001Z"),
        ] {
            let at = Time::from_unix(seconds, nanoseconds).unwrap();
            assert_eq!(at.to_string(), text);
            assert_eq!(text.parse::<Time>().unwrap(), at);
        }
        assert_eq!(Time::ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Time::default(), Time::ZERO);
    }

    #[test]
    fn offsets_are_read() {
        let at: Time = "2023-11-14T23:13:20+01:00".parse().unwrap();
        assert_eq!(at.unix_seconds(), 1_700_000_000);
    }
}
