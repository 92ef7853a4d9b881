//! `wharf logs`.

use crate::error::CliError;
use crate::session::Session;
use crate::stream::demux::{Demux, Output};
use crate::stream::write;
use crate::transport::url::{Query, escape_path};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct LogsOptions {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(long, short)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string", default_value = "")]
    since: String,
    /// Number of lines to show from the end of the logs (default "all")
    #[arg(long, short = 'n', value_name = "string", default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// Show timestamps
    #[arg(long, short)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string", default_value = "")]
    until: String,
    args: Vec<String>,
}

impl Options for LogsOptions {
    const USAGE: &'static str = "[OPTIONS] CONTAINER";
    const ABOUT: &'static str = "Fetch the logs of a container";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = session.client()?;
        let inspect = super::inspect(client, &self.args[0]).await?;
        let instant = |name: &str, text: &str| {
            crate::options::instant::parse(text)
                .map_err(|bad| CliError::invalid(format!("invalid value for \"{name}\": {bad}")))
        };
        let query = Query::new()
            .set("stdout", "1")
            .set("stderr", "1")
            .text("since", &instant("since", &self.since)?)
            .text("until", &instant("until", &self.until)?)
            .flag("timestamps", self.timestamps)
            .flag("details", self.details)
            .flag("follow", self.follow)
            .set("tail", &self.tail);
        let mut answer = client.get(&format!("/containers/{}/logs", escape_path(&inspect.id)), query).await?;
        let mut demux = Demux::default();
        while let Some(chunk) = answer.chunk().await? {
            let shown = if inspect.config.tty {
                write::stdout(&chunk)
            } else {
                demux.push(&chunk, |to, data| match to {
                    Output::Stdout => write::stdout(data),
                    Output::Stderr => write::stderr(data),
                })
            };
            shown.map_err(CliError::io("logs"))?;
        }
        Ok(())
    }
}
