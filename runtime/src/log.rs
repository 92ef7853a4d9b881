//! Messages in the two forms of runc's log, which shims and daemons parse.

use crate::timestamp;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug)]
struct Log {
    /// None: standard error.
    file: Option<File>,
    format: Format,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens the log once for this process. The file is appended to, as several runs share it.
pub fn open(path: Option<&Path>, format: Format, debug: bool) -> std::io::Result<()> {
    let file = match path {
        Some(path) => Some(OpenOptions::new().append(true).create(true).open(path)?),
        None => None,
    };
    let _ = LOG.set(Log { file, format, debug });
    Ok(())
}

/// The error that ends this process: into the log, and where that is a file also to standard error in plain words.
pub fn fatal(message: &str) {
    write("error", message);
    if LOG.get().is_some_and(|l| l.file.is_some()) {
        eprintln!("{message}");
    }
}

/// An error that does not end this process.
pub fn error(message: &str) {
    write("error", message);
}

pub fn warn(message: &str) {
    write("warning", message);
}

pub fn debug(message: impl FnOnce() -> String) {
    if LOG.get().is_some_and(|l| l.debug) {
        write("debug", &message());
    }
}

fn write(level: &str, message: &str) {
    let (format, file) = LOG.get().map_or((Format::Text, None), |l| (l.format, l.file.as_ref()));
    let line = line(format, level, message, &timestamp::seconds(SystemTime::now()));
    // there is nowhere to report a failure of the report to
    let _ = match file {
        Some(mut file) => file.write_all(line.as_bytes()),
        None => std::io::stderr().write_all(line.as_bytes()),
    };
}

fn line(format: Format, level: &str, message: &str, time: &str) -> String {
    match format {
        Format::Json => {
            let quoted = |s: &str| serde_json::Value::from(s).to_string();
            format!("{{\"level\":{},\"msg\":{},\"time\":{}}}\n", quoted(level), quoted(message), quoted(time))
        }
        Format::Text => format!("time=\"{time}\" level={level} msg={}\n", text_value(message)),
    }
}

/// logfmt: quoted unless it is one plain word.
fn text_value(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if !value.is_empty() && value.chars().all(plain) { value.to_owned() } else { format!("{value:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_runcs() {
        let t = "2026-11-21T10:18:34Z";
        assert_eq!(
            line(Format::Json, "error", "a \"b\"\n", t),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"2026-11-21T10:18:34Z\"}\n"
        );
        assert_eq!(
            line(Format::Text, "error", "a \"b\"", t),
            "time=\"2026-11-21T10:18:34Z\" level=error msg=\"a \\\"b\\\"\"\n"
        );
    }
}
