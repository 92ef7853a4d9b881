//! Where a process's output goes and its input comes from: the addresses given to the shim.

use wharf_stdio::{LogFormat, StdinMode, StdioAddress};

use crate::config::{EngineConfig, WHARF_RUNTIME};
use crate::container::exec::ExecRecord;
use crate::container::record::Record;
use crate::error::EngineError;

/// Values of a task's stdio fields; empty is nothing.
pub(crate) struct StdioPlan {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
}

impl StdioPlan {
    fn of(address: &StdioAddress, stdin: bool, terminal: bool) -> Self {
        let text = address.to_string();
        Self {
            stdin: if stdin { text.clone() } else { String::new() },
            stderr: if terminal { String::new() } else { text.clone() },
            stdout: text,
        }
    }

    fn nowhere() -> Self {
        Self { stdin: String::new(), stdout: String::new(), stderr: String::new() }
    }
}

/// Stdio of a container's first process.
pub(crate) fn stdio(engine: &EngineConfig, record: &Record) -> Result<StdioPlan, EngineError> {
    if record.runtime != WHARF_RUNTIME {
        return Ok(foreign(engine, record));
    }
    let log = &record.host.log_config;
    let mut address = StdioAddress::new(engine.log_path(&record.id));
    address.format = match log.r#type.as_str() {
        "local" => LogFormat::Local,
        "none" => LogFormat::None,
        _ => LogFormat::JsonFile,
    };
    let local = address.format == LogFormat::Local;
    address.max_size = match log.config.get("max-size") {
        Some(text) => size(text)?,
        None if local => 20 << 20,
        None => 0,
    };
    address.max_file = match log.config.get("max-file") {
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| *n >= 1)
            .ok_or_else(|| EngineError::Invalid(format!("max-file cannot be less than 1: {text}")))?,
        None if local => 5,
        None => 1,
    };
    address.attach = Some(engine.attach_path(&record.id, ""));
    address.stdin = match (record.config.open_stdin, record.config.stdin_once) {
        (false, _) => StdinMode::None,
        (true, true) => StdinMode::Once,
        (true, false) => StdinMode::Open,
    };
    if let Some(tag) = log.config.get("tag") {
        address.attrs.insert("tag".to_owned(), tag.clone());
    }
    Ok(StdioPlan::of(&address, record.config.open_stdin, record.config.tty))
}

/// Stdio of an exec: no log.
pub(crate) fn exec_stdio(
    engine: &EngineConfig,
    container: &Record,
    exec: &ExecRecord,
) -> Result<StdioPlan, EngineError> {
    if container.runtime != WHARF_RUNTIME {
        return Ok(StdioPlan::nowhere());
    }
    let mut address = StdioAddress::new("/");
    address.format = LogFormat::None;
    address.attach = Some(engine.attach_path(&exec.container_id, &exec.id));
    let stdin = exec.request.attach_stdin;
    address.stdin = if stdin { StdinMode::Once } else { StdinMode::None };
    Ok(StdioPlan::of(&address, stdin, exec.request.tty))
}

/// A shim that is not ours writes raw output to a file; it cannot be attached to.
fn foreign(engine: &EngineConfig, record: &Record) -> StdioPlan {
    let path = engine.container_dir(&record.id).join("output.log");
    let text = format!("file://{}", path.display());
    StdioPlan {
        stdin: String::new(),
        stderr: if record.config.tty { String::new() } else { text.clone() },
        stdout: text,
    }
}

/// A size as Docker's log options write it: `10m`, `1g`, `500k`, `0`, `-1` for no limit.
fn size(text: &str) -> Result<u64, EngineError> {
    let bad = || EngineError::Invalid(format!("invalid size: '{text}'"));
    if text == "-1" {
        return Ok(0);
    }
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, unit) = match lower.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&lower[..at], unit),
        _ => (lower, ' '),
    };
    let shift = match unit {
        ' ' => 0,
        'k' => 10,
        'm' => 20,
        'g' => 30,
        't' => 40,
        _ => return Err(bad()),
    };
    digits.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("10m", 10 << 20),
            ("1g", 1 << 30),
            ("500k", 500 << 10),
            ("42", 42),
            ("10mb", 10 << 20),
            ("-1", 0),
        ] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "1x", "-2", "99999999999t"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
