//! The stdio address.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::percent;

/// The URI scheme that tells a [`StdioAddress`] from a FIFO path, `file://` and `binary://`.
pub const SCHEME: &str = "wharf";

/// The longest address that is accepted, in bytes.
const MAX_LEN: usize = 16 * 1024;
/// The most files a rotation keeps.
const MAX_FILES: u32 = 1000;
/// Longest pathname of a unix socket (`sun_path` less its NUL).
const MAX_SOCKET_PATH: usize = 107;

/// How the shim writes a container's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Docker's json-file records.
    JsonFile,
    /// Docker's `local` driver: length-framed protobuf records.
    Local,
    /// The kubelet's CRI text lines.
    Cri,
    /// No log: streams go to attached clients only.
    None,
}

impl LogFormat {
    /// The word in the address.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogFormat::JsonFile => "json-file",
            LogFormat::Local => "local",
            LogFormat::Cri => "cri",
            LogFormat::None => "none",
        }
    }
}

/// What becomes of the container's standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdinMode {
    /// There is none: the container reads end of file at once.
    None,
    /// It stays open after a client leaves.
    Open,
    /// It is closed when the first attached client that has stdin goes away or half-closes.
    Once,
}

impl StdinMode {
    /// The word in the address.
    pub const fn as_str(self) -> &'static str {
        match self {
            StdinMode::None => "none",
            StdinMode::Open => "open",
            StdinMode::Once => "once",
        }
    }
}

/// Where a task's or an exec's streams go: a log file, an attach socket, or both.
///
/// In a request `stdout` carries the address; `stderr` the same text, or nothing with a terminal; `stdin`
/// the same text if stdin is open, else nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioAddress {
    /// Absolute path of the log file; rotated files are `<log>.1`, `<log>.2`, …. Unused with `format=none`.
    pub log: PathBuf,
    /// The log's format.
    pub format: LogFormat,
    /// A log file of at least this many bytes is rotated before the next record; 0 is no limit.
    pub max_size: u64,
    /// Files kept, the live one included; at least 1.
    pub max_file: u32,
    /// Absolute path at which the shim makes the attach socket, if there is to be one.
    pub attach: Option<PathBuf>,
    /// What becomes of stdin.
    pub stdin: StdinMode,
    /// Attributes put on each record of formats that have them (`tag=…` is the attribute `tag`,
    /// `attr.NAME=…` the attribute `NAME`).
    pub attrs: BTreeMap<String, String>,
}

impl StdioAddress {
    /// An address with a log of one unlimited json-file, no attach socket and no stdin.
    pub fn new(log: impl Into<PathBuf>) -> Self {
        StdioAddress {
            log: log.into(),
            format: LogFormat::JsonFile,
            max_size: 0,
            max_file: 1,
            attach: None,
            stdin: StdinMode::None,
            attrs: BTreeMap::new(),
        }
    }

    /// Whether a stdio field holds such an address, well formed or not.
    pub fn is_address(field: &str) -> bool {
        field.strip_prefix(SCHEME).is_some_and(|rest| rest.starts_with("://"))
    }
}

/// Why a text is no stdio address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("stdio address does not begin with wharf:///")]
    Scheme,
    /// Longer than 16 KiB.
    #[error("stdio address of {0} bytes is longer than {MAX_LEN}")]
    TooLong(usize),
    /// A path that is relative, holds a NUL, or steps up with `..`.
    #[error("stdio address: {key} must be an absolute path without \"..\": {path:?}")]
    Path {
        /// `log` or `attach`.
        key: &'static str,
        /// What was given.
        path: PathBuf,
    },
    /// The attach path does not fit a socket address.
    #[error("stdio address: attach path of {0} bytes is longer than a socket's {MAX_SOCKET_PATH}")]
    SocketPath(usize),
    /// A value outside what its key takes.
    #[error("stdio address: {key}={value} is not one of {allowed}")]
    Value {
        /// The key.
        key: String,
        /// The value given.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A key that is not known.
    #[error("stdio address: unknown key {0:?}")]
    Key(String),
    /// A key given twice.
    #[error("stdio address: {0:?} is given twice")]
    Twice(String),
    /// Broken percent-encoding or not UTF-8.
    #[error("stdio address: bad encoding in {0:?}")]
    Encoding(String),
    /// The parts contradict one another.
    #[error("stdio address: {0}")]
    Contradiction(&'static str),
}

impl fmt::Display for StdioAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(256);
        out.push_str("wharf://");
        percent::encode(self.log.as_os_str().as_bytes(), &mut out);
        out.push_str("?format=");
        out.push_str(self.format.as_str());
        out.push_str(&format!("&max-size={}&max-file={}", self.max_size, self.max_file));
        if let Some(attach) = &self.attach {
            out.push_str("&attach=");
            percent::encode(attach.as_os_str().as_bytes(), &mut out);
        }
        out.push_str("&stdin=");
        out.push_str(self.stdin.as_str());
        for (name, value) in &self.attrs {
            out.push('&');
            if name == "tag" {
                out.push_str("tag");
            } else {
                out.push_str("attr.");
                percent::encode(name.as_bytes(), &mut out);
            }
            out.push('=');
            percent::encode(value.as_bytes(), &mut out);
        }
        f.write_str(&out)
    }
}

impl FromStr for StdioAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_LEN {
            return Err(AddressError::TooLong(text.len()));
        }
        let rest = text.strip_prefix("wharf://").ok_or(AddressError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut address = StdioAddress::new(absolute("log", path)?);
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = string(key)?;
            if seen.contains(&key) {
                return Err(AddressError::Twice(key));
            }
            address.set(&key, value)?;
            seen.push(key);
        }
        address.check()
    }
}

impl StdioAddress {
    fn set(&mut self, key: &str, raw: &str) -> Result<(), AddressError> {
        let bad = |allowed| AddressError::Value { key: key.to_owned(), value: raw.to_owned(), allowed };
        match key {
            "format" => {
                self.format = match raw {
                    "json-file" => LogFormat::JsonFile,
                    "local" => LogFormat::Local,
                    "cri" => LogFormat::Cri,
                    "none" => LogFormat::None,
                    _ => return Err(bad("json-file, local, cri, none")),
                }
            }
            "stdin" => {
                self.stdin = match raw {
                    "none" => StdinMode::None,
                    "open" => StdinMode::Open,
                    "once" => StdinMode::Once,
                    _ => return Err(bad("none, open, once")),
                }
            }
            "max-size" => {
                self.max_size = raw.parse().map_err(|_| bad("a number of bytes, 0 for no limit"))?
            }
            "max-file" => {
                self.max_file = raw
                    .parse()
                    .ok()
                    .filter(|n| (1..=MAX_FILES).contains(n))
                    .ok_or_else(|| bad("a number of files from 1 to 1000"))?;
            }
            "attach" => {
                let path = absolute("attach", raw)?;
                let len = path.as_os_str().len();
                if len > MAX_SOCKET_PATH {
                    return Err(AddressError::SocketPath(len));
                }
                self.attach = Some(path);
            }
            "tag" => {
                self.attrs.insert("tag".to_owned(), string(raw)?);
            }
            _ => {
                let name = key.strip_prefix("attr.").filter(|n| !n.is_empty() && *n != "tag");
                let name = name.ok_or_else(|| AddressError::Key(key.to_owned()))?;
                self.attrs.insert(name.to_owned(), string(raw)?);
            }
        }
        Ok(())
    }

    fn check(self) -> Result<Self, AddressError> {
        if self.format != LogFormat::None && self.log.file_name().is_none() {
            return Err(AddressError::Path { key: "log", path: self.log });
        }
        if self.stdin != StdinMode::None && self.attach.is_none() {
            return Err(AddressError::Contradiction("stdin needs an attach socket"));
        }
        if self.attach.as_deref().is_some_and(|a| a == Path::new("/") || a == self.log) {
            return Err(AddressError::Contradiction("attach must name a file of its own"));
        }
        Ok(self)
    }
}

fn absolute(key: &'static str, raw: &str) -> Result<PathBuf, AddressError> {
    let bytes = percent::decode(raw).ok_or_else(|| AddressError::Encoding(raw.to_owned()))?;
    let clean = !bytes.contains(&0);
    let path = PathBuf::from(OsString::from_vec(bytes));
    let up = path.components().any(|c| c == std::path::Component::ParentDir);
    if clean && path.is_absolute() && !up { Ok(path) } else { Err(AddressError::Path { key, path }) }
}

fn string(raw: &str) -> Result<String, AddressError> {
    percent::decode(raw)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| AddressError::Encoding(raw.to_owned()))
}

#[cfg(test)]
mod tests;
