//! The client's configuration: `config.json`, contexts, credentials. All in docker's places and shapes.

mod auth;
mod context;
mod file;

pub(crate) use auth::registry_auth;
pub(crate) use context::{Context, ContextStore, DEFAULT_CONTEXT};
pub(crate) use file::ConfigFile;

use std::path::PathBuf;

use crate::error::go_text;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("context {name:?}: context not found: open {path}: {text}", path = .path.display(), text = go_text(.source))]
    ContextMissing { name: String, path: PathBuf, source: std::io::Error },
    #[error("context {name:?}: {path}: {text}", path = .path.display())]
    ContextMalformed { name: String, path: PathBuf, text: String },
    #[error("{act} {path}: {text}", path = .path.display(), text = go_text(.source))]
    File { act: &'static str, path: PathBuf, source: std::io::Error },
    #[error("parsing {path}: {text}", path = .path.display())]
    Malformed { path: PathBuf, text: String },
    #[error("credential helper docker-credential-{helper}: {text}")]
    Helper { helper: String, text: String },
}
