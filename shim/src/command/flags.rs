//! The command line, in the style of Go's flag package: one dash or two, `=` or a space.

use std::ffi::OsString;
use std::path::PathBuf;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `-v`.
    Version,
    /// `-info`.
    Info,
    /// `start`.
    Start,
    /// `delete`.
    Delete,
}

/// The flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// What is asked for.
    pub action: Action,
    /// The containerd namespace.
    pub namespace: String,
    /// The container's id.
    pub id: String,
    /// The daemon's gRPC address.
    pub address: String,
    /// The bundle, where it is not the working directory.
    pub bundle: Option<PathBuf>,
    /// Write more to the log.
    pub debug: bool,
}

/// Why a command line is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FlagError {
    /// Not known.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// Without its value.
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// With a value that is none of its own.
    #[error("invalid boolean value {value:?} for -{flag}")]
    Boolean {
        /// The flag.
        flag: String,
        /// The value.
        value: String,
    },
    /// Not UTF-8.
    #[error("argument {0:?} is not UTF-8")]
    Encoding(OsString),
    /// No namespace.
    #[error("shim namespace cannot be empty")]
    NoNamespace,
    /// No or a bad id.
    #[error("-{flag} {value:?} must be letters, digits, '_', '.', '-'")]
    Name {
        /// `id` or `namespace`.
        flag: &'static str,
        /// The value.
        value: String,
    },
    /// Neither `start` nor `delete`.
    #[error("no action: start, delete")]
    NoAction,
    /// Another word than `start` or `delete`.
    #[error("unknown action {0:?}: start, delete")]
    Action(String),
}

impl Flags {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// See [`FlagError`].
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Flags, FlagError> {
        let mut flags = Flags {
            action: Action::Start,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: None,
            debug: false,
        };
        let (mut version, mut info, mut word) = (false, false, None);
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let arg = arg.into_string().map_err(FlagError::Encoding)?;
            let dashless = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let Some(flag) = dashless.filter(|f| !f.is_empty()) else {
                word = Some(match arg.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    _ => return Err(FlagError::Action(arg)),
                });
                // as in Go, what follows the first word is no flag; shims take no more words
                break;
            };
            let (flag, value) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (flag, None),
            };
            match flag {
                "debug" => flags.debug = boolean(flag, value)?,
                "v" | "version" => version = boolean(flag, value)?,
                "info" => info = boolean(flag, value)?,
                "namespace" | "id" | "address" | "bundle" | "socket" | "debug-socket" | "publish-binary" => {
                    let value = match value {
                        Some(value) => value,
                        None => args
                            .next()
                            .ok_or_else(|| FlagError::NoValue(flag.to_owned()))?
                            .into_string()
                            .map_err(FlagError::Encoding)?,
                    };
                    match flag {
                        "namespace" => flags.namespace = value,
                        "id" => flags.id = value,
                        "address" => flags.address = value,
                        "bundle" => flags.bundle = Some(PathBuf::from(value)).filter(|b| b != ""),
                        // events go over ttrpc, the socket is made by `start`, and there is no profiling
                        _ => {}
                    }
                }
                _ => return Err(FlagError::Unknown(flag.to_owned())),
            }
        }
        if version || info {
            flags.action = if version { Action::Version } else { Action::Info };
            return Ok(flags);
        }
        let flags = flags.check()?;
        Ok(Flags { action: word.ok_or(FlagError::NoAction)?, ..flags })
    }

    fn check(self) -> Result<Flags, FlagError> {
        if self.namespace.is_empty() {
            return Err(FlagError::NoNamespace);
        }
        for (flag, value) in [("id", &self.id), ("namespace", &self.namespace)] {
            if !crate::runtime::is_plain_name(value) {
                return Err(FlagError::Name { flag, value: value.clone() });
            }
        }
        Ok(self)
    }
}

fn boolean(flag: &str, value: Option<String>) -> Result<bool, FlagError> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(FlagError::Boolean { flag: flag.to_owned(), value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, FlagError> {
        Flags::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_line_of_containerd_is_read() {
        let flags =
            parse("-namespace default -address /run/c.sock -publish-binary /usr/bin/containerd -id web -debug start").unwrap();
        assert_eq!((flags.action, flags.debug), (Action::Start, true));
        assert_eq!(
            (flags.namespace.as_str(), flags.id.as_str(), flags.address.as_str()),
            ("default", "web", "/run/c.sock")
        );
    }

    #[test]
    fn dashes_and_equals_signs_are_as_in_go() {
        let one = parse("-namespace ns -id x -bundle /b delete").unwrap();
        assert_eq!(parse("--namespace=ns --id=x --debug=false -bundle=/b delete").unwrap(), one);
        assert_eq!((one.action, one.bundle), (Action::Delete, Some("/b".into())));
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        assert_eq!(parse("-nope"), Err(FlagError::Unknown("nope".into())));
        assert_eq!(parse("-id"), Err(FlagError::NoValue("id".into())));
        assert_eq!(parse("-id x start"), Err(FlagError::NoNamespace));
        assert!(matches!(parse("-namespace ns -id ../x start"), Err(FlagError::Name { flag: "id", .. })));
        assert_eq!(parse("-namespace ns -id x stop"), Err(FlagError::Action("stop".into())));
        assert_eq!(parse("-namespace ns -id x"), Err(FlagError::NoAction));
    }

    #[test]
    fn version_and_info_need_nothing_else() {
        assert_eq!(parse("-v").unwrap().action, Action::Version);
        assert_eq!(parse("-info").unwrap().action, Action::Info);
    }
}
