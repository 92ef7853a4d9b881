//! What the stdio fields of a request ask for.

use std::path::PathBuf;

use wharf_stdio::{AddressError, StdioAddress};

/// Where a process's streams go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nowhere.
    Null,
    /// Through FIFOs that the caller made; each may be absent.
    Fifo {
        /// Read by the shim.
        stdin: Option<PathBuf>,
        /// Written by it.
        stdout: Option<PathBuf>,
        /// Written by it.
        stderr: Option<PathBuf>,
    },
    /// Both outputs appended to one file.
    File {
        /// The file.
        path: PathBuf,
        /// A FIFO for stdin.
        stdin: Option<PathBuf>,
    },
    /// To a program started for it.
    Binary {
        /// Its path.
        path: PathBuf,
        /// Its arguments: the query's keys and values in turn.
        args: Vec<String>,
        /// It must write a byte to say that it is ready (`binary-v2`).
        strict: bool,
    },
    /// To the Wharf log and attached clients.
    Wharf(StdioAddress),
}

/// Why stdio fields are wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// A scheme that no shim knows.
    #[error("unknown STDIO scheme {0}")]
    Scheme(String),
    /// A bad address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The fields contradict one another.
    #[error("stdio: {field} is {value:?}, which does not go with stdout")]
    Field {
        /// `stdin` or `stderr`.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// A path that is not absolute.
    #[error("stdio: {0:?} is not an absolute path")]
    Relative(String),
}

impl Plan {
    /// [`Plan::parse`] for a process with a terminal or without. A terminal has one output: what is named as the second is
    /// not looked at, as in containerd's shim, whose clients name a FIFO that nobody made.
    pub fn of_process(terminal: bool, stdin: &str, stdout: &str, stderr: &str) -> Result<Plan, PlanError> {
        Plan::parse(stdin, stdout, if terminal { "" } else { stderr })
    }

    /// Reads the three fields of a request.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn parse(stdin: &str, stdout: &str, stderr: &str) -> Result<Plan, PlanError> {
        if stdin.is_empty() && stdout.is_empty() && stderr.is_empty() {
            return Ok(Plan::Null);
        }
        if StdioAddress::is_address(stdout) {
            for (field, value) in [("stdin", stdin), ("stderr", stderr)] {
                if !value.is_empty() && value != stdout {
                    return Err(PlanError::Field { field, value: value.to_owned() });
                }
            }
            return Ok(Plan::Wharf(stdout.parse()?));
        }
        match stdout.split_once("://") {
            None => Ok(Plan::Fifo { stdin: fifo(stdin)?, stdout: fifo(stdout)?, stderr: fifo(stderr)? }),
            Some(("fifo", path)) => {
                Ok(Plan::Fifo { stdin: fifo(stdin)?, stdout: fifo(path)?, stderr: fifo(stderr)? })
            }
            Some(("file", rest)) => {
                let (path, _) = rest.split_once('?').unwrap_or((rest, ""));
                Ok(Plan::File { path: absolute(path)?, stdin: fifo(stdin)? })
            }
            Some((scheme @ ("binary" | "binary-v2"), rest)) => {
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                let mut args = Vec::new();
                for pair in query.split('&').filter(|p| !p.is_empty()) {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    args.push(unescape(key));
                    args.push(unescape(value));
                }
                Ok(Plan::Binary { path: absolute(path)?, args, strict: scheme == "binary-v2" })
            }
            Some((scheme, _)) => Err(PlanError::Scheme(scheme.to_owned())),
        }
    }
}

fn fifo(field: &str) -> Result<Option<PathBuf>, PlanError> {
    let path = field.strip_prefix("fifo://").unwrap_or(field);
    if path.is_empty() { Ok(None) } else { Ok(Some(absolute(path)?)) }
}

fn absolute(path: &str) -> Result<PathBuf, PlanError> {
    let path = unescape(path);
    if path.starts_with('/') && !path.contains('\0') {
        Ok(PathBuf::from(path))
    } else {
        Err(PlanError::Relative(path))
    }
}

/// Percent-decoding as of a URL; what is no escape stays.
fn unescape(text: &str) -> String {
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b, ..) => {
                out.push(b);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_told_by_stdout() {
        let path = |p: &str| Some(PathBuf::from(p));
        assert_eq!(Plan::parse("", "", ""), Ok(Plan::Null));
        let one = Ok(Plan::Fifo { stdin: None, stdout: path("/o"), stderr: None });
        assert_eq!(Plan::of_process(true, "", "/o", "/nobody/made/it"), one);
        assert_eq!(
            Plan::parse("/i", "/o", ""),
            Ok(Plan::Fifo { stdin: path("/i"), stdout: path("/o"), stderr: None })
        );
        assert_eq!(
            Plan::parse("", "file:///a%20b", "file:///a%20b"),
            Ok(Plan::File { path: "/a b".into(), stdin: None })
        );
        assert_eq!(
            Plan::parse("", "binary:///bin/log?k=v&flag", ""),
            Ok(Plan::Binary {
                path: "/bin/log".into(),
                args: ["k", "v", "flag", ""].map(str::to_owned).to_vec(),
                strict: false
            })
        );
        let text = "wharf:///l?attach=/s&stdin=open";
        assert_eq!(Plan::parse(text, text, ""), Ok(Plan::Wharf(text.parse().unwrap())));
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        assert_eq!(Plan::parse("", "npipe://x", ""), Err(PlanError::Scheme("npipe".into())));
        assert!(matches!(Plan::parse("", "relative", ""), Err(PlanError::Relative(_))));
        assert!(matches!(
            Plan::parse("/fifo", "wharf:///l", ""),
            Err(PlanError::Field { field: "stdin", .. })
        ));
        assert!(matches!(Plan::parse("", "wharf:///l?x=y", ""), Err(PlanError::Address(_))));
    }
}
