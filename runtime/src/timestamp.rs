//! RFC 3339 times in UTC, as runc writes them.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-21T10:18:34.883255095Z`
pub fn nanos(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}Z", date_time(since.as_secs()), since.subsec_nanos())
}

/// `2026-11-21T10:18:34Z`
pub fn seconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}Z", date_time(since.as_secs()))
}

/// Days to a date in the Gregorian calendar, counted in 400-year eras that begin on 1 March.
fn date_time(secs: u64) -> String {
    let (days, rest) = (secs / 86_400 + 719_468, secs % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (month, date) =
        (if shifted < 10 { shifted + 3 } else { shifted - 9 }, day_of_year - (153 * shifted + 2) / 5 + 1);
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_moments() {
        assert_eq!(date_time(0), "1970-01-01T00:00:00");
        assert_eq!(date_time(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(date_time(1_709_251_199), "2024-02-29T23:59:59");
        assert_eq!(date_time(4_102_444_800), "2100-01-01T00:00:00");
        assert_eq!(nanos(UNIX_EPOCH + Duration::new(1, 5)), "1970-01-01T00:00:01.000000005Z");
    }
}
