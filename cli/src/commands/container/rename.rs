//! `wharf rename`.

use crate::error::CliError;
use crate::session::{Session, warn};
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct RenameOptions {
    args: Vec<String>,
}

impl Options for RenameOptions {
    const USAGE: &'static str = "CONTAINER NEW_NAME";
    const ABOUT: &'static str = "Rename a container";
    const ARITY: Arity = Arity::Exactly(2);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let (old, new) = (self.args[0].trim(), self.args[1].trim());
        if old.is_empty() || new.is_empty() {
            return Err(CliError::invalid("Error: Neither old nor new names may be empty"));
        }
        if let Err(bad) =
            super::act_with(session.client()?, old, "rename", Query::new().set("name", new)).await
        {
            warn(&bad.to_string());
            return Err(CliError::invalid(format!("Error: failed to rename container named {old}")));
        }
        Ok(())
    }
}
