//! `--since` and `--until`: instants as the API takes them.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::output::units::parse_duration;

/// `SECONDS.NANOSECONDS` for a duration before now (`42m`), an RFC 3339 time with or without its zone, or
/// seconds since the epoch. Empty stays empty.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    at(text, Timestamp::now())
}

fn at(text: &str, now: Timestamp) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if let Some(nanos) = parse_duration(text) {
        return Ok(shown(now.as_nanosecond() - i128::from(nanos)));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(shown(instant.as_nanosecond()));
    }
    // without a zone it is local time
    let local = text
        .parse::<DateTime>()
        .or_else(|_| text.parse::<Date>().map(|date| date.to_datetime(jiff::civil::Time::midnight())));
    match local.ok().and_then(|time| time.to_zoned(TimeZone::system()).ok()) {
        Some(zoned) => Ok(shown(zoned.timestamp().as_nanosecond())),
        None => Err(format!("failed to parse value as time or duration: {text:?}")),
    }
}

fn shown(nanos: i128) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_in_every_form() {
        let now = Timestamp::from_second(1_000_000).expect("time");
        for (text, want) in [
            ("", ""),
            ("10s", "999990.000000000"),
            ("1.5s", "999998.500000000"),
            ("1136073600", "1136073600"),
            ("1136073600.000000001", "1136073600.000000001"),
            ("2006-01-02T15:04:05Z", "1136214245.000000000"),
            ("2006-01-02T15:04:05.5+01:00", "1136210645.500000000"),
        ] {
            assert_eq!(at(text, now).as_deref(), Ok(want), "{text}");
        }
        assert!(
            at("2006-01-02", now).is_ok()
                && at("2006-01-02T15:04:05", now).is_ok()
                && at("soon", now).is_err()
        );
    }
}
