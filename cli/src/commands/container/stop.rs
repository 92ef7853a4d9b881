//! `wharf stop`.

use crate::error::CliError;
use crate::flags::go_int;
use crate::session::Session;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct StopOptions {
    /// Signal to send to the container
    #[arg(long, short, value_name = "string", default_value = "")]
    signal: String,
    /// Seconds to wait before killing the container
    #[arg(long, short, alias = "time", value_name = "int", allow_hyphen_values = true, value_parser = go_int)]
    timeout: Option<i64>,
    args: Vec<String>,
}

/// The parameters that stop and restart share.
pub(super) fn query(signal: &str, timeout: Option<i64>) -> Query {
    let query = Query::new().text("signal", signal);
    match timeout {
        Some(seconds) => query.set("t", seconds.to_string()),
        None => query,
    }
}

impl Options for StopOptions {
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Stop one or more running containers";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = session.client()?;
        client.ping().await?;
        let query = query(&self.signal, self.timeout);
        super::each(&self.args, |name| super::act_with(client, name, "stop", query.clone())).await
    }
}
