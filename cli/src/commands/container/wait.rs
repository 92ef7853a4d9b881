//! `wharf wait`.

use wharf_docker::container::WaitResponse;

use crate::error::CliError;
use crate::session::{Session, println};
use crate::transport::RequestBody;
use crate::transport::url::{Query, escape_path};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct WaitOptions {
    args: Vec<String>,
}

impl Options for WaitOptions {
    const USAGE: &'static str = "CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Block until one or more containers stop, then print their exit codes";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = session.client()?;
        let mut errors = Vec::new();
        for name in &self.args {
            let path = format!("/containers/{}/wait", escape_path(name));
            let result: Result<WaitResponse, _> =
                async { client.post(&path, Query::new(), RequestBody::Empty).await?.json().await }.await;
            match result {
                Ok(result) => println(&result.status_code.to_string())?,
                Err(bad) => errors.push(bad.into()),
            }
        }
        crate::error::all(errors)
    }
}
