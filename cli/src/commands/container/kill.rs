//! `wharf kill`.

use crate::error::CliError;
use crate::session::Session;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct KillOptions {
    /// Signal to send to the container
    #[arg(long, short, value_name = "string", default_value = "")]
    signal: String,
    args: Vec<String>,
}

impl Options for KillOptions {
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Kill one or more running containers";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = session.client()?;
        client.ping().await?;
        let query = Query::new().text("signal", &self.signal);
        super::each(&self.args, |name| super::act_with(client, name, "kill", query.clone())).await
    }
}
