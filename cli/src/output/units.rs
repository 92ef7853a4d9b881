//! Sizes and durations as docker words them (go-units), and their inverse for flags.

use std::time::Duration;

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// `1.23MB`: powers of 1000, `digits` significant digits.
pub(crate) fn human_size(bytes: f64, digits: usize) -> String {
    scale(bytes, 1000.0, &DECIMAL, digits)
}

/// `1.234MiB`: powers of 1024, four significant digits.
pub(crate) fn binary_size(bytes: f64) -> String {
    scale(bytes, 1024.0, &BINARY, 4)
}

fn scale(mut size: f64, base: f64, units: &[&str; 9], digits: usize) -> String {
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

/// C's `%.Ng`: at most `digits` significant digits, no zeros at the end.
fn significant(n: f64, digits: usize) -> String {
    if n == 0.0 {
        return "0".to_owned();
    }
    let rounded = format!("{n:.*e}", digits.saturating_sub(1));
    let exponent: i32 = rounded.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        let (mantissa, _) = rounded.split_once('e').unwrap_or((&rounded, ""));
        let mantissa = trim_zeros(mantissa);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    trim_zeros(&format!("{n:.decimals$}")).to_owned()
}

fn trim_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// `About a minute`, `3 hours`, `2 weeks`.
pub(crate) fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // half an hour up counts as an hour, as in go-units
    let hours = (duration.as_secs_f64() / 3600.0).round() as u64;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Reads `10m`, `1.5GiB`, `512`: powers of 1024 whatever the unit's spelling. None if malformed.
pub(crate) fn parse_memory(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    (bytes.is_finite() && bytes < i64::MAX as f64).then_some(bytes as i64)
}

/// Reads Go's durations: `1h30m`, `500ms`, `1.5s`, `0`. Nanoseconds; None if malformed.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit_len] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[unit_len..];
    }
    (total < i64::MAX as f64).then_some(if negative { -(total as i64) } else { total as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_go_units_prints_them() {
        for (bytes, want) in [
            (0.0, "0B"),
            (5.0, "5B"),
            (999.0, "999B"),
            (1000.0, "1kB"),
            (1_536_000.0, "1.54MB"),
            (124_000_000.0, "124MB"),
            (999_600.0, "1e+03kB"),
        ] {
            assert_eq!(human_size(bytes, 3), want);
        }
        assert_eq!(human_size(1_234_567.0, 4), "1.235MB");
        assert_eq!(binary_size(25_284_214_784.0), "23.55GiB");
        assert_eq!(binary_size(1024.0), "1KiB");
    }

    #[test]
    fn durations_as_go_units_words_them() {
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86400, "13 days"),
            (14 * 86400, "2 weeks"),
            (59 * 86400, "8 weeks"),
            (60 * 86400, "2 months"),
            (729 * 86400, "24 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), want, "{seconds}");
        }
    }

    #[test]
    fn memory_and_durations_of_flags() {
        for (text, want) in [
            ("512", 512),
            ("10m", 10 << 20),
            ("1.5g", 3 << 29),
            ("1KiB", 1024),
            ("2kb", 2048),
            ("4b", 4),
            ("1 k", 1024),
        ] {
            assert_eq!(parse_memory(text), Some(want), "{text}");
        }
        for bad in ["", "x", "1x", "-1", "1..2", "99999999p"] {
            assert_eq!(parse_memory(bad), None, "{bad}");
        }
        assert_eq!(parse_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(parse_duration("1.5s"), Some(1_500_000_000));
        assert_eq!(parse_duration("-3ms"), Some(-3_000_000));
        for bad in ["", "3", "x", "1y", "s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
