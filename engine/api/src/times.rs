//! Times in queries: seconds with a fraction, RFC 3339 in its shorter forms, or an age such as `10m`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::ApiError;

/// Parses `since` and `until`: nanoseconds since the epoch. Empty is none.
pub fn parse(name: &str, value: &str) -> Result<Option<i64>, ApiError> {
    if value.is_empty() {
        return Ok(None);
    }
    let bad = || {
        ApiError::invalid(format!(
            "invalid value for {name:?}: failed to parse value as time or duration: {value:?}"
        ))
    };
    if let Some(nanos) = unix(value) {
        return Ok(Some(nanos));
    }
    if let Some(age) = go_duration(value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let then = now.saturating_sub(age);
        return Ok(Some(i64::try_from(then.as_nanos()).unwrap_or(i64::MAX)));
    }
    calendar(value).map(Some).ok_or_else(bad)
}

/// `1700000000` or `1700000000.123456789`.
fn unix(value: &str) -> Option<i64> {
    let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let nanos: i64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().ok()? };
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Go's durations: `1h30m`, `10s`, `1.5h`, `300ms`.
pub fn go_duration(value: &str) -> Option<Duration> {
    let mut rest = value;
    let mut total = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, seconds) =
            [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)]
                .into_iter()
                .find(|(unit, _)| rest.starts_with(unit))?;
        total += number * seconds;
        rest = &rest[unit.len()..];
    }
    Duration::try_from_secs_f64(total).ok()
}

fn calendar(value: &str) -> Option<i64> {
    let nanos = |at: jiff::Timestamp| i64::try_from(at.as_nanosecond()).ok();
    if let Ok(at) = value.parse::<jiff::Timestamp>() {
        return nanos(at);
    }
    // without an offset it is the daemon's local time
    let local =
        |at: jiff::civil::DateTime| nanos(at.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp());
    if let Ok(at) = value.parse::<jiff::civil::DateTime>() {
        return local(at);
    }
    local(value.parse::<jiff::civil::Date>().ok()?.at(0, 0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_dates_and_ages() {
        assert_eq!(parse("since", "").unwrap(), None);
        assert_eq!(parse("since", "5").unwrap(), Some(5_000_000_000));
        assert_eq!(parse("since", "5.5").unwrap(), Some(5_500_000_000));
        assert_eq!(parse("since", "2023-11-14T22:13:20Z").unwrap(), Some(1_700_000_000_000_000_000));
        assert!(parse("since", "2023-11-14").unwrap().is_some());
        let age = parse("since", "1h").unwrap().unwrap();
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        assert!((now - age - 3_600_000_000_000).abs() < 5_000_000_000);
        assert!(parse("since", "yesterday").is_err());
        assert_eq!(go_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(go_duration("x"), None);
    }
}
