//! Cutting and wording of single values.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::tabwriter::display_width;

/// The twelve characters of an id that tables show, without its algorithm.
pub(crate) fn short_id(id: &str) -> String {
    let id = id.split_once(':').map_or(id, |(_, rest)| rest);
    id.chars().take(12).collect()
}

/// `text` cut to `width` columns of a terminal, the last of them an ellipsis.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().map(display_width).sum::<usize>() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += display_width(c);
        if used > width.saturating_sub(1) {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// `2006-01-02 15:04:05 -0700 MST` in local time, as Go prints a time.
pub(crate) fn local_time(seconds: i64) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else { return seconds.to_string() };
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// RFC 3339 in local time, whole seconds.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let Ok(time) = Timestamp::from_second(seconds) else { return seconds.to_string() };
    zulu(time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
}

/// RFC 3339 in local time with nine digits of a second, from nanoseconds since the epoch.
pub(crate) fn rfc3339_nanos(nanos: i64) -> String {
    let Ok(time) = Timestamp::from_nanosecond(nanos.into()) else { return nanos.to_string() };
    zulu(time.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string())
}

/// Go writes UTC as `Z`.
fn zulu(text: String) -> String {
    match text.strip_suffix("+00:00") {
        Some(stem) => format!("{stem}Z"),
        None => text,
    }
}

/// `6 minutes` since then; a time to come counts as now.
pub(crate) fn since(seconds: i64) -> String {
    let elapsed = Timestamp::now().as_second().saturating_sub(seconds).max(0);
    super::units::human_duration(std::time::Duration::from_secs(elapsed.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("abcdefg", 6), "abcde…");
        assert_eq!(ellipsis("日本語", 4), "日…");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
