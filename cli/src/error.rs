//! What a verb can fail with, and the exit code that docker gives it.

use crate::config::ConfigError;
use crate::template::Unserializable;
use crate::transport::{ClientError, HostError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Template(#[from] Unserializable),
    /// Refused before or after talking to the daemon; the text says all.
    #[error("{0}")]
    Invalid(String),
    /// A file or stream of this side.
    #[error("{act}: {}", go_text(.source))]
    Io { act: String, source: std::io::Error },
    /// The text is printed unless it is empty.
    #[error("{text}")]
    Status { code: u8, text: String },
}

impl CliError {
    pub(crate) fn invalid(text: impl Into<String>) -> CliError {
        CliError::Invalid(text.into())
    }

    pub(crate) fn io(act: impl Into<String>) -> impl FnOnce(std::io::Error) -> CliError {
        let act = act.into();
        move |source| CliError::Io { act, source }
    }

    /// Ends the program with this code and says nothing.
    pub(crate) fn exit(code: i64) -> CliError {
        CliError::Status { code: (code & 0xff) as u8, text: String::new() }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            CliError::Status { code, .. } => *code,
            _ => 1,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, CliError::Client(client) if client.is_not_found())
    }
}

/// Several failures of one verb, as docker prints them: a line each, exit code 1.
pub(crate) fn all(errors: Vec<CliError>) -> Result<(), CliError> {
    if errors.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Err(CliError::Status { code: 1, text: texts.join("\n") })
}

/// An error of the system in the words that Go programs print: `no such file or directory`.
pub(crate) fn go_text(bad: &std::io::Error) -> String {
    let text = bad.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut chars = text.chars();
    // acronyms keep their case
    match (chars.next(), text.chars().nth(1)) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
