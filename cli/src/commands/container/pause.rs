//! `wharf pause` and `wharf unpause`.

use crate::error::CliError;
use crate::session::Session;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct PauseOptions {
    args: Vec<String>,
}

impl Options for PauseOptions {
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Pause all processes within one or more containers";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = session.client()?;
        client.ping().await?;
        super::each(&self.args, |name| super::act(client, name, "pause")).await
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct UnpauseOptions {
    args: Vec<String>,
}

impl Options for UnpauseOptions {
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Unpause all processes within one or more containers";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = session.client()?;
        client.ping().await?;
        super::each(&self.args, |name| super::act(client, name, "unpause")).await
    }
}
