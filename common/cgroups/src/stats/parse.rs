//! The few forms that statistics files have. Lines that do not fit are skipped: kernels add new ones.

use std::collections::BTreeMap;

use super::{IoDevice, IoEntry, Pressure, Stall};

/// `name number` lines.
pub(super) fn table(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// Numbers with blanks between them.
pub(super) fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// v1's `major:minor Op value` and `major:minor value` lines; the closing `Total value` is left out.
pub(super) fn blkio(text: &str) -> Vec<IoEntry> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (at, op, value) = match fields[..] {
                [at, op, value] => (at, op, value),
                [at, value] => (at, "", value),
                _ => return None,
            };
            let (major, minor) = device(at)?;
            Some(IoEntry { major, minor, op: op.to_owned(), value: value.parse().ok()? })
        })
        .collect()
}

/// v2's `major:minor key=value …` lines.
pub(super) fn io_stat(text: &str) -> Vec<IoDevice> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (major, minor) = device(fields.next()?)?;
            let mut out = IoDevice { major, minor, ..IoDevice::default() };
            for (key, value) in fields.filter_map(|f| f.split_once('=')) {
                let Ok(value) = value.parse() else { continue };
                match key {
                    "rbytes" => out.rbytes = value,
                    "wbytes" => out.wbytes = value,
                    "rios" => out.rios = value,
                    "wios" => out.wios = value,
                    "dbytes" => out.dbytes = value,
                    "dios" => out.dios = value,
                    _ => {}
                }
            }
            Some(out)
        })
        .collect()
}

/// `some avg10=… avg60=… avg300=… total=…` and the same with `full`.
pub(super) fn pressure(text: &str) -> Pressure {
    let mut out = Pressure::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let target = match fields.next() {
            Some("some") => &mut out.some,
            Some("full") => &mut out.full,
            _ => continue,
        };
        let mut stall = Stall::default();
        for (key, value) in fields.filter_map(|f| f.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().unwrap_or_default(),
                "avg60" => stall.avg60 = value.parse().unwrap_or_default(),
                "avg300" => stall.avg300 = value.parse().unwrap_or_default(),
                "total" => stall.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        *target = stall;
    }
    out
}

/// `device hca_handle=n hca_object=n` lines of `rdma.current` or `rdma.max`.
pub(super) fn rdma(text: &str) -> BTreeMap<String, (u64, u64)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let name = fields.next()?.to_owned();
            let mut out = (0, 0);
            for (key, value) in fields.filter_map(|f| f.split_once('=')) {
                let Some(value) = crate::file::number(value) else { continue };
                match key {
                    "hca_handle" => out.0 = value,
                    "hca_object" => out.1 = value,
                    _ => {}
                }
            }
            Some((name, out))
        })
        .collect()
}
