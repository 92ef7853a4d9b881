//! Times as records carry them: RFC 3339 in UTC, nanoseconds, trailing zeros left out, as Go's RFC3339Nano.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch, UTC; from 1678 to 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub i64);

/// A text that is no RFC 3339 time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an RFC 3339 time")]
pub struct StampError;

const NANOS: i64 = 1_000_000_000;
/// `2006-01-02T15:04:05`
const SECONDS_LEN: usize = 19;

impl Stamp {
    /// Now.
    pub fn now() -> Stamp {
        SystemTime::now().into()
    }

    /// Reads `2006-01-02T15:04:05[.fraction](Z|±hh:mm)`.
    ///
    /// # Errors
    /// If the text is anything else, or a time beyond [`Stamp`]'s range.
    pub fn parse(text: &[u8]) -> Result<Stamp, StampError> {
        parse(text).ok_or(StampError)
    }
}

impl From<SystemTime> for Stamp {
    fn from(time: SystemTime) -> Stamp {
        let nanos = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Stamp(nanos(since)),
            Err(before) => Stamp(-nanos(before.duration())),
        }
    }
}

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = Vec::with_capacity(35);
        Printer::default().print(*self, &mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// Prints stamps, remembering the text of the last second.
pub(crate) struct Printer {
    second: i64,
    text: [u8; SECONDS_LEN],
}

impl Default for Printer {
    fn default() -> Self {
        Printer { second: i64::MIN, text: *b"0000-00-00T00:00:00" }
    }
}

impl Printer {
    pub(crate) fn print(&mut self, stamp: Stamp, out: &mut Vec<u8>) {
        let second = stamp.0.div_euclid(NANOS);
        if second != self.second {
            self.second = second;
            self.text = seconds_text(second);
        }
        out.extend_from_slice(&self.text);
        let mut nanos = stamp.0.rem_euclid(NANOS);
        if nanos > 0 {
            let mut digits = *b".000000000";
            for digit in digits[1..].iter_mut().rev() {
                *digit = b'0' + (nanos % 10) as u8;
                nanos /= 10;
            }
            let end = digits.iter().rposition(|d| *d != b'0').map_or(0, |last| last + 1);
            out.extend_from_slice(&digits[..end]);
        }
        out.push(b'Z');
    }
}

fn seconds_text(second: i64) -> [u8; SECONDS_LEN] {
    let (year, month, day) = civil(second.div_euclid(86_400));
    let of_day = second.rem_euclid(86_400);
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |at: usize, len: usize, mut value: i64| {
        for digit in text[at..at + len].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3600);
    put(14, 2, of_day / 60 % 60);
    put(17, 2, of_day % 60);
    text
}

/// Days since the epoch to the Gregorian date. Years begin in March, so that a leap day is a year's last;
/// an era is 400 years, 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // from 0000-03-01
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * march_month + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    year.div_euclid(400) * 146_097 + of_era - 719_468
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |n: i64, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

fn parse(text: &[u8]) -> Option<Stamp> {
    let (date, rest) = text.split_at_checked(SECONDS_LEN)?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| date[*at].to_ascii_uppercase() != *mark) {
        return None;
    }
    let (year, month, day) = (number(&date[..4])?, number(&date[5..7])?, number(&date[8..10])?);
    let (hour, minute, second) = (number(&date[11..13])?, number(&date[14..16])?, number(&date[17..19])?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (mut nanos, mut rest) = (0, rest);
    if let Some(fraction) = rest.strip_prefix(b".") {
        let len = fraction.iter().take_while(|d| d.is_ascii_digit()).count();
        if len == 0 {
            return None;
        }
        for place in 0..9 {
            nanos = nanos * 10 + fraction[..len].get(place).map_or(0, |d| i64::from(d - b'0'));
        }
        rest = &fraction[len..];
    }
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let seconds = number(&[*h1, *h2])? * 3600 + number(&[*m1, *m2])? * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Stamp(seconds.checked_mul(NANOS)?.checked_add(nanos)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_print_as_go_prints_them() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
            (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(Stamp(nanos).to_string(), text);
            assert_eq!(Stamp::parse(text.as_bytes()), Ok(Stamp(nanos)));
        }
    }

    #[test]
    fn offsets_are_subtracted() {
        assert_eq!(Stamp::parse(b"1970-01-01T01:30:00+01:30"), Ok(Stamp(0)));
        assert_eq!(Stamp::parse(b"1969-12-31T23:00:00.5-01:00"), Ok(Stamp(500_000_000)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2023-13-01T00:00:00Z",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20",
            "9999-01-01T00:00:00Z",
        ] {
            assert_eq!(Stamp::parse(text.as_bytes()), Err(StampError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos in -2_000_000_000_000_000_000i64..9_000_000_000_000_000_000) {
            prop_assert_eq!(Stamp::parse(Stamp(nanos).to_string().as_bytes()), Ok(Stamp(nanos)));
        }
    }
}
