//! `wharf load`.

use std::fs::File;
use std::io::{self, Read};

use crate::error::CliError;
use crate::output::progress::{Display, show_all};
use crate::session::Session;
use crate::stream::write;
use crate::terminal;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct LoadOptions {
    /// Read from tar archive file, instead of STDIN
    #[arg(long, short, value_name = "string", default_value = "")]
    input: String,
    /// Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string", default_value = "")]
    platform: String,
    /// Suppress the load output
    #[arg(long, short)]
    quiet: bool,
}

impl Options for LoadOptions {
    const USAGE: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Load an image from a tar archive or STDIN";
    const ARITY: Arity = Arity::None;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let source: Box<dyn Read + Send> = match self.input.as_str() {
            "" if terminal::stdin_is_terminal() => {
                return Err(CliError::invalid("requested load from stdin, but stdin is empty"));
            }
            "" => Box::new(io::stdin()),
            path => Box::new(open(path)?),
        };
        let on_terminal = terminal::stdout_is_terminal();
        let quiet = if self.quiet || !on_terminal { "1" } else { "0" };
        let query = Query::new().set("quiet", quiet).text("platform", &platform_json(&self.platform)?);
        let mut answer = session.client()?.upload("/images/load", query, source).await?;
        if answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
            let width = on_terminal.then(|| terminal::size().1 as usize);
            return show_all(answer, &mut Display::new(io::stdout(), width), |_| {}).await;
        }
        while let Some(chunk) = answer.chunk().await? {
            write::stdout(&chunk).map_err(CliError::io("write to standard output"))?;
        }
        Ok(())
    }
}

pub(super) fn open(path: &str) -> Result<File, CliError> {
    File::open(path).map_err(CliError::io(format!("open {path}")))
}

/// A platform as the API's JSON; empty stays empty.
pub(super) fn platform_json(text: &str) -> Result<String, CliError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let platform = wharf_vocab::Platform::parse(text)
        .map_err(|bad| CliError::invalid(format!("invalid platform: {bad}")))?;
    let mut parts = platform.to_string().split('/').map(str::to_owned).collect::<Vec<_>>().into_iter();
    let mut wire =
        wharf_docker::image::Platform { os: parts.next().unwrap_or_default(), ..Default::default() };
    wire.architecture = parts.next().unwrap_or_default();
    wire.variant = parts.next().unwrap_or_default();
    serde_json::to_string(&wire).map_err(|bad| CliError::invalid(bad.to_string()))
}
