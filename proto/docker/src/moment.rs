//! Instants in queries and filters (`since`, `until`): a time, or so long ago.

use crate::time::Time;

/// Reads what Docker takes: seconds since the epoch with a fraction, RFC 3339 with or without zone and time of day
/// (without a zone the host's local time is meant), or a Go duration such as `1h30m` before `now`.
pub fn parse(text: &str, now: Time) -> Option<Time> {
    if let Ok(at) = text.parse::<Time>() {
        return Some(at);
    }
    if let Some(at) = Time::parse_local(text) {
        return Some(at);
    }
    if let Some(nanos) = duration(text) {
        let at = now.unix_nanoseconds() - nanos;
        return Time::from_unix(
            i64::try_from(at.div_euclid(1_000_000_000)).ok()?,
            at.rem_euclid(1_000_000_000) as i32,
        );
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Time::from_unix(seconds.parse().ok()?, format!("{fraction:0<9}").parse().ok()?)
}

/// A Go duration in nanoseconds.
fn duration(text: &str) -> Option<i128> {
    let mut rest = text;
    let mut total: i128 = 0;
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, after) = rest.split_at(number);
        let units = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(units);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = count.split_once('.').unwrap_or((count, ""));
        if whole.len() > 12 || fraction.len() > 12 || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let of = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
        total += of(whole)? * scale + of(fraction)? * scale / 10i128.pow(fraction.len() as u32);
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let now = Time::from_unix(1_000_000, 0).unwrap();
        for (text, seconds) in [
            ("1h30m", 1_000_000 - 5400),
            ("1.5h", 1_000_000 - 5400),
            ("10s", 999_990),
            ("86400", 86_400),
            ("1970-01-02T00:00:00Z", 86_400),
            ("1970-01-02T01:00:00+01:00", 86_400),
        ] {
            assert_eq!(parse(text, now).map(Time::unix_seconds), Some(seconds), "{text}");
        }
        let local = |text: &str| parse(text, now).map(Time::unix_seconds);
        assert_eq!(local("1970-01-02T00:00:00"), local("1970-01-02"));
        assert_eq!(local("1970-01-02T00:00"), local("1970-01-02"));
        assert!(local("1970-01-02").is_some_and(|at| (at - 86_400).abs() <= 14 * 3600));
        let exact = parse("5.5", now).map(Time::unix_nanoseconds);
        assert_eq!(exact, Some(5_500_000_000));
        for text in ["", "h", "1y", "yesterday", "1h-", "9999999999999h"] {
            assert_eq!(parse(text, now), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_time_panics(text in "[0-9a-zµ.:T+-]{0,30}") {
            let _ = parse(&text, Time::now());
        }
    }
}
