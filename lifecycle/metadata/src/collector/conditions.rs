//! References that hold under a condition: `containerd.io/gc.cond.snapshot.<snapshotter>` on a blob or an image, with
//! the value `usedat<24h[,usedat>…]|<key>`, keeps that snapshot while the time in the snapshot's own label
//! `containerd.io/gc.cond.value-usedat` is younger (`<`) or older (`>`) than that. Several conditions mean any of them.

use std::time::{Duration, SystemTime};

use wharf_vocab::Labels;

const REFERENCE: &str = "containerd.io/gc.cond.snapshot";
const USED_AT: &str = "containerd.io/gc.cond.value-usedat";

/// Conditions in one label; more are ignored.
const MAX_CONDITIONS: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conditional {
    pub(super) snapshotter: String,
    pub(super) key: String,
    any_of: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Younger(Span),
    Older(Span),
}

/// A length of time in nanoseconds, which may be negative.
type Span = i128;

impl Conditional {
    /// What a label says, if it is such a label. What cannot be read is passed over, as in containerd.
    pub(super) fn of(name: &str, value: &str) -> Option<Conditional> {
        let snapshotter = name.strip_prefix(REFERENCE)?.trim_start_matches(['.', '/']);
        let snapshotter = snapshotter.split('/').next().unwrap_or_default();
        let (conditions, key) = value.split_once('|')?;
        let any_of: Vec<_> = conditions.split(',').filter_map(condition).take(MAX_CONDITIONS).collect();
        (!any_of.is_empty()).then(|| Conditional { snapshotter: snapshotter.into(), key: key.into(), any_of })
    }

    /// Whether the reference holds now, given the snapshot's labels; and when it may cease to.
    pub(super) fn holds(&self, labels: &Labels, now: SystemTime) -> Option<Option<SystemTime>> {
        let mut holds = false;
        // with several that hold, it ends with the last of them
        let mut until: Option<SystemTime> = None;
        let mut for_ever = false;
        for used in labels.iter().filter(|(name, _)| name.starts_with(USED_AT)).filter_map(|(_, at)| time(at))
        {
            let age = age(used, now);
            for condition in &self.any_of {
                match *condition {
                    Condition::Younger(span) if age < span => {
                        holds = true;
                        let ends = u64::try_from(span).ok().map(Duration::from_nanos);
                        let ends = ends.and_then(|span| used.checked_add(span));
                        until = until.max(ends);
                    }
                    Condition::Older(span) if age > span => (holds, for_ever) = (true, true),
                    Condition::Younger(_) | Condition::Older(_) => {}
                }
            }
        }
        holds.then_some(until.filter(|_| !for_ever))
    }
}

fn condition(text: &str) -> Option<Condition> {
    let value = text.strip_prefix("usedat")?;
    if let Some(span) = value.strip_prefix('<') {
        return duration(span).map(Condition::Younger);
    }
    duration(value.strip_prefix('>')?).map(Condition::Older)
}

fn time(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// Negative for a time to come.
fn age(then: SystemTime, now: SystemTime) -> Span {
    let nanos = |d: Duration| Span::try_from(d.as_nanos()).unwrap_or(Span::MAX);
    match now.duration_since(then) {
        Ok(age) => nanos(age),
        Err(ahead) => -nanos(ahead.duration()),
    }
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `-10ms`.
fn duration(text: &str) -> Option<Span> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    let mut total: Span = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_ends = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_ends);
        let nanos: Span = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.len() > 18 {
            return None;
        }
        let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<Span>().ok() };
        total += parse(whole)? * nanos + parse(fraction)? * nanos / 10i128.pow(fraction.len() as u32);
        rest = after;
    }
    // what Go's duration can hold
    (total <= Span::from(i64::MAX)).then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("-10ms", -10_000_000),
            ("+1us", 1_000),
            ("3µs2ns", 3_002),
        ] {
            assert_eq!(duration(text), Some(nanos), "{text}");
        }
        for text in ["", "1", "s", "1x", ".s", "1h ", "-", "9999999h", "1..2s", "1.2.3s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn conditions_hold_by_the_age_of_the_last_use() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let used = |seconds_ago: i64| {
            let at = jiff::Timestamp::from_second(1_800_000_000 - seconds_ago).unwrap();
            Labels::from([(USED_AT.to_owned(), at.to_string())])
        };
        let read = |value: &str| Conditional::of("containerd.io/gc.cond.snapshot.overlayfs/x", value);
        let young = read("usedat<1h|key|with|bars").unwrap();
        assert_eq!((young.snapshotter.as_str(), young.key.as_str()), ("overlayfs", "key|with|bars"));
        assert_eq!(young.holds(&used(10), now), Some(Some(now + Duration::from_secs(3590))));
        assert_eq!(young.holds(&used(3600), now), None);
        assert_eq!(young.holds(&Labels::new(), now), None, "a snapshot that says nothing meets no condition");
        assert_eq!(read("usedat>1h|k").unwrap().holds(&used(3601), now), Some(None));
        let either = read("usedat<1m,size=4,usedat>1h|k").unwrap();
        assert!(either.holds(&used(10), now).is_some() && either.holds(&used(4000), now).is_some());
        assert_eq!(either.holds(&used(600), now), None);
        for value in ["usedat<1h", "|k", "usedat=1h|k", "usedat<=1h|k", "size<4|k", "usedat<soon|k"] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(Conditional::of("containerd.io/gc.ref.snapshot.overlayfs", "usedat<1h|k"), None);
    }
}
