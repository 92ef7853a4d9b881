//! Where a process's output goes and its input comes from: the addresses given to the shim.

use std::path::PathBuf;
use std::sync::Arc;

use wharf_stdio::{LogFormat, StdinMode, StdioAddress};

use crate::config::{EngineConfig, WHARF_RUNTIME, text};
use crate::container::exec::ExecRecord;
use crate::container::record::Record;
use crate::container::relay::{Pipes, Process};
use crate::engine::Shared;
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
}

/// Whether a container's shim takes our stdio addresses.
fn is_ours(record: &Record) -> bool {
    record.runtime == WHARF_RUNTIME
}

/// Where the output of a container's first process goes, and how its input is treated.
fn address(engine: &EngineConfig, record: &Record) -> Result<StdioAddress, EngineError> {
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
    Ok(address)
}

/// Stdio of a container's first process. For a shim that is not ours the pipes are made and served.
pub(crate) fn stdio(shared: &Arc<Shared>, record: &Record) -> Result<StdioPlan, EngineError> {
    let address = address(&shared.config, record)?;
    if is_ours(record) {
        return Ok(StdioPlan::of(&address, record.config.open_stdin, record.config.tty));
    }
    relayed(shared, &record.id, "", &address, record.config.tty)
}

/// Serves the pipes of a container that runs already.
pub(crate) fn relay(shared: &Arc<Shared>, record: &Record) -> Result<(), EngineError> {
    if is_ours(record) { Ok(()) } else { stdio(shared, record).map(|_| ()) }
}

/// Stdio of an exec: no log.
pub(crate) fn exec_stdio(
    shared: &Arc<Shared>,
    container: &Record,
    exec: &ExecRecord,
) -> Result<StdioPlan, EngineError> {
    let mut address = StdioAddress::new("/");
    address.format = LogFormat::None;
    address.attach = Some(shared.config.attach_path(&exec.container_id, &exec.id));
    let stdin = exec.request.attach_stdin;
    address.stdin = if stdin { StdinMode::Once } else { StdinMode::None };
    if is_ours(container) {
        return Ok(StdioPlan::of(&address, stdin, exec.request.tty));
    }
    relayed(shared, &exec.container_id, &exec.id, &address, exec.request.tty)
}

fn relayed(
    shared: &Arc<Shared>,
    container: &str,
    exec: &str,
    address: &StdioAddress,
    terminal: bool,
) -> Result<StdioPlan, EngineError> {
    let stdin = address.stdin != StdinMode::None;
    let pipes = Pipes::name(&shared.config.stdio_dir(container), exec, stdin, terminal);
    let process = Process { container: container.to_owned(), exec: exec.to_owned() };
    shared.relays.start(shared, process, &pipes, address)?;
    let name = |path: Option<&PathBuf>| path.map(|path| text(path)).unwrap_or_default();
    Ok(StdioPlan {
        stdin: name(pipes.stdin.as_ref()),
        stdout: name(Some(&pipes.stdout)),
        stderr: name(pipes.stderr.as_ref()),
    })
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
