//! `wharf rm`.

use crate::error::CliError;
use crate::session::{Session, println, warn};
use crate::transport::Client;
use crate::transport::url::{Query, escape_path};
use crate::verb::{Arity, Options};
use futures_util::StreamExt as _;

#[derive(clap::Args, Debug)]
pub(crate) struct RmOptions {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(long, short)]
    force: bool,
    /// Remove the specified link
    #[arg(long, short)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(long, short)]
    volumes: bool,
    args: Vec<String>,
}

impl Options for RmOptions {
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Remove one or more containers";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = session.client()?;
        client.ping().await?;
        let query = Query::new().flag("v", self.volumes).flag("link", self.link).flag("force", self.force);
        let mut results = futures_util::stream::iter(&self.args)
            .map(|name| {
                let query = query.clone();
                async move { (name, remove(client, name, query).await) }
            })
            .buffered(super::AT_ONCE);
        let mut errors = Vec::new();
        while let Some((name, result)) = results.next().await {
            match result {
                Ok(()) => println(name)?,
                // with --force a container that is not there is removed enough
                Err(missing) if self.force && missing.is_not_found() => warn(&missing.to_string()),
                Err(bad) => errors.push(bad),
            }
        }
        crate::error::all(errors)
    }
}

async fn remove(client: &Client, name: &str, query: Query) -> Result<(), CliError> {
    let name = name.trim_matches('/');
    if name.is_empty() {
        return Err(CliError::invalid("container name cannot be empty"));
    }
    client.delete(&format!("/containers/{}", escape_path(name)), query).await?.bytes().await?;
    Ok(())
}
