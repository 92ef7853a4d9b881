//! Limits: memory, CPUs, ulimits, block devices.

use wharf_docker::container::{ThrottleDevice, Ulimit, WeightDevice};

use crate::output::units::{parse_duration, parse_memory};

/// `-m` and its like: bytes.
pub(crate) fn memory(text: &str) -> Result<i64, String> {
    parse_memory(text).ok_or_else(|| format!("invalid size: '{text}'"))
}

/// `--memory-swap`: bytes, or -1 for no limit.
pub(crate) fn memory_swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { memory(text) }
}

/// `--cpus 1.5`: thousand-millionths of a CPU.
pub(crate) fn cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let (kept, beyond) = fraction.split_at(fraction.len().min(9));
    if beyond.bytes().any(|b| b != b'0') {
        return Err("value is too precise".to_owned());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let fraction: i64 = format!("{kept:0<9}").parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(fraction)).ok_or_else(bad)
}

/// Durations of health checks: nanoseconds.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    parse_duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"))
}

const ULIMITS: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `nofile=1024:2048`, or one number for both; -1 is no limit.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| -> Result<i64, String> {
        text.parse().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
    };
    let (soft, hard) = match limits.split(':').collect::<Vec<_>>().as_slice() {
        [both] => (number(both)?, number(both)?),
        [soft, hard] => (number(soft)?, number(hard)?),
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

fn device_path(text: &str) -> Result<(&str, &str), String> {
    match text.split_once(':') {
        Some((path, _)) if !path.starts_with("/dev/") => Err(format!("bad format for device path: {text}")),
        Some((path, value)) if !value.is_empty() => Ok((path, value)),
        _ => Err(format!("bad format: {text}")),
    }
}

/// `--blkio-weight-device /dev/sda:200`.
pub(crate) fn weight_device(text: &str) -> Result<WeightDevice, String> {
    let (path, value) = device_path(text)?;
    match value.parse() {
        Ok(weight @ (0 | 10..=1000)) => Ok(WeightDevice { path: path.to_owned(), weight }),
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// `--device-read-bps /dev/sda:1mb`.
pub(crate) fn throttle_bytes(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = device_path(text)?;
    let rate = parse_memory(value).and_then(|rate| u64::try_from(rate).ok()).ok_or_else(|| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `--device-read-iops /dev/sda:1000`.
pub(crate) fn throttle_operations(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = device_path(text)?;
    let rate = value.parse().map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_exact_to_a_thousand_millionth() {
        for (text, want) in
            [("1", 1_000_000_000), ("0.5", 500_000_000), (".25", 250_000_000), ("1.000000001", 1_000_000_001)]
        {
            assert_eq!(cpus(text), Ok(want), "{text}");
        }
        assert_eq!(cpus("0.1234567891"), Err("value is too precise".to_owned()));
        assert!(cpus("x").is_err() && cpus(".").is_err() && cpus("1.-1").is_err());
    }

    #[test]
    fn ulimits_have_a_soft_and_a_hard_limit() {
        assert_eq!(ulimit("nofile=1024:2048"), Ok(Ulimit { name: "nofile".into(), hard: 2048, soft: 1024 }));
        assert_eq!(ulimit("core=-1"), Ok(Ulimit { name: "core".into(), hard: -1, soft: -1 }));
        for bad in ["nofile", "what=1", "nofile=2:1", "nofile=1:2:3", "nofile=x", "nofile=-1:5"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_weights_and_rates() {
        assert_eq!(memory("x"), Err("invalid size: 'x'".to_owned()));
        assert_eq!(memory_swap("-1"), Ok(-1));
        assert_eq!(throttle_bytes("/dev/sda:1mb").map(|d| d.rate), Ok(1 << 20));
        assert_eq!(weight_device("/dev/sda:200").map(|d| d.weight), Ok(200));
        assert!(
            weight_device("/dev/sda:5").is_err()
                && throttle_operations("sda:5").is_err()
                && throttle_operations("/dev/sda").is_err()
        );
    }
}
