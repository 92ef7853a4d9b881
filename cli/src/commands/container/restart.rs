//! `wharf restart`.

use super::stop::query;
use crate::error::CliError;
use crate::flags::go_int;
use crate::session::{Session, println};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct RestartOptions {
    /// Signal to send to the container
    #[arg(long, short, value_name = "string", default_value = "")]
    signal: String,
    /// Seconds to wait before killing the container
    #[arg(long, short, alias = "time", value_name = "int", allow_hyphen_values = true, value_parser = go_int)]
    timeout: Option<i64>,
    args: Vec<String>,
}

impl Options for RestartOptions {
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Restart one or more containers";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = session.client()?;
        let query = query(&self.signal, self.timeout);
        let mut errors = Vec::new();
        for name in &self.args {
            match super::act_with(client, name, "restart", query.clone()).await {
                Ok(()) => println(name)?,
                Err(bad) => errors.push(bad),
            }
        }
        crate::error::all(errors)
    }
}
