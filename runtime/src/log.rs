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
            format!("{{\"level\":\"{level}\",\"msg\":{},\"time\":\"{time}\"}}\n", json_value(message))
        }
        Format::Text => format!("time=\"{time}\" level={level} msg={}\n", text_value(message)),
    }
}

/// As Go's encoder writes a string: what would mean something in HTML or JavaScript is escaped too.
fn json_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    for c in serde_json::Value::from(value).to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escape(c, &mut out),
            c => out.push(c),
        }
    }
    out
}

/// logfmt as runc's library has it: quoted, in Go's syntax, unless it is one plain word (or nothing).
fn text_value(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{07}' => out.push_str("\\a"),
            '\u{08}' => out.push_str("\\b"),
            '\u{0c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_printable(c) => out.push(c),
            c => escape(c, &mut out),
        }
    }
    out.push('"');
    out
}

fn escape(c: char, out: &mut String) {
    match u32::from(c) {
        n @ ..0x1_0000 => out.push_str(&format!("\\u{n:04x}")),
        n => out.push_str(&format!("\\U{n:08x}")),
    }
}

/// Letters, marks, numbers, punctuation, symbols and the blank.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // after another character marks are left as they are
    let mut pair = [0u8; 5];
    pair[0] = b'a';
    let end = 1 + pair.get_mut(1..).map_or(0, |rest| c.encode_utf8(rest).len());
    pair.get(..end)
        .and_then(|p| std::str::from_utf8(p).ok())
        .is_some_and(|p| p.escape_debug().nth(1) == Some(c))
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

    #[test]
    fn awkward_strings_are_escaped_as_gos_are() {
        // worked out with runc's own library
        let cases = [
            ("", "", r#""""#),
            ("a-._/@^+Z9", "a-._/@^+Z9", r#""a-._/@^+Z9""#),
            ("'it'", r#""'it'""#, r#""'it'""#),
            (
                "a\u{0}\u{7}\u{8}\u{b}\u{c}\n\r\t\u{1b}\u{7f}",
                r#""a\x00\a\b\v\f\n\r\t\x1b\x7f""#,
                "\"a\\u0000\\u0007\\b\\u000b\\f\\n\\r\\t\\u001b\u{7f}\"",
            ),
            ("<a & b>", r#""<a & b>""#, r#""\u003ca \u0026 b\u003e""#),
            ("ü 漢 e\u{301}", "\"ü 漢 e\u{301}\"", "\"ü 漢 e\u{301}\""),
            (
                "\u{85}\u{a0}\u{200b}\u{2028}\u{feff}",
                r#""\u0085\u00a0\u200b\u2028\ufeff""#,
                "\"\u{85}\u{a0}\u{200b}\\u2028\u{feff}\"",
            ),
            ("\u{1f600}\u{e0001}", "\"\u{1f600}\\U000e0001\"", "\"\u{1f600}\u{e0001}\""),
            (r#"\"x""#, r#""\\\"x\"""#, r#""\\\"x\"""#),
        ];
        for (value, text, json) in cases {
            assert_eq!(text_value(value), text, "{value:?}");
            assert_eq!(json_value(value), json, "{value:?}");
        }
    }
}
