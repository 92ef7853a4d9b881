//! `wharf save`.

use std::io::Write as _;
use std::path::Path;

use super::load::platform_json;
use crate::error::CliError;
use crate::session::Session;
use crate::stream::write;
use crate::terminal;
use crate::transport::Response;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct SaveOptions {
    /// Write to a file, instead of STDOUT
    #[arg(long, short, value_name = "string", default_value = "")]
    output: String,
    /// Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string", default_value = "")]
    platform: String,
    args: Vec<String>,
}

impl Options for SaveOptions {
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ABOUT: &'static str = "Save one or more images to a tar archive (streamed to STDOUT by default)";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        if self.output.is_empty() && terminal::stdout_is_terminal() {
            return Err(CliError::invalid(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            ));
        }
        let mut query = Query::new().text("platform", &platform_json(&self.platform)?);
        for name in &self.args {
            query = query.set("names", name);
        }
        let answer = session.client()?.get("/images/get", query).await?;
        if self.output.is_empty() {
            to_stdout(answer).await
        } else {
            to_file(answer, Path::new(&self.output)).await
        }
    }
}

async fn to_stdout(mut answer: Response) -> Result<(), CliError> {
    while let Some(chunk) = answer.chunk().await? {
        write::stdout(&chunk).map_err(CliError::io("write to standard output"))?;
    }
    Ok(())
}

/// Writes beside the file and renames over it: a save that fails leaves what was there.
async fn to_file(mut answer: Response, path: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut name = path
        .file_name()
        .ok_or_else(|| CliError::invalid("failed to save image: not a file name"))?
        .to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let staged = path.with_file_name(name);
    let failed = |bad| CliError::Io { act: format!("failed to save image: {}", path.display()), source: bad };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged).map_err(failed)?;
    let written = async {
        while let Some(chunk) = answer.chunk().await? {
            file.write_all(&chunk).map_err(failed)?;
        }
        file.sync_all().and_then(|()| std::fs::rename(&staged, path)).map_err(failed)
    }
    .await;
    if written.is_err() {
        // the error that matters is the one being returned
        let _ = std::fs::remove_file(&staged);
    }
    written
}
