//! `wharf context use`.

use crate::config::DEFAULT_CONTEXT;
use crate::error::CliError;
use crate::session::{Session, env, println, warn};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct UseOptions {
    args: Vec<String>,
}

impl Options for UseOptions {
    const USAGE: &'static str = "CONTEXT";
    const ABOUT: &'static str = "Set the current context";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let name = &self.args[0];
        let store = session.contexts();
        if name != DEFAULT_CONTEXT {
            store.get(name)?;
        }
        let current = &session.config().current_context;
        let unchanged = current == name || (current.is_empty() && name == DEFAULT_CONTEXT);
        if !unchanged {
            store.set_current(name)?;
        }
        println(name)?;
        warn(&format!("Current context is now {name:?}"));
        if name != DEFAULT_CONTEXT && env("DOCKER_HOST").is_some() {
            warn(&format!(
                "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset DOCKER_HOST environment variable."
            ));
        }
        Ok(())
    }
}
