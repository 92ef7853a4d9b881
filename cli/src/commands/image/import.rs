//! `wharf import`.

use std::io::{self, Read};

use crate::error::CliError;
use crate::output::progress::{Display, show_all};
use crate::session::Session;
use crate::terminal;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct ImportOptions {
    /// Apply Dockerfile instruction to the created image
    #[arg(long, short, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(long, short, value_name = "string", default_value = "")]
    message: String,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string", default_value = "")]
    platform: String,
    args: Vec<String>,
}

impl Options for ImportOptions {
    const USAGE: &'static str = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]";
    const ABOUT: &'static str = "Import the contents from a tarball to create a filesystem image";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let source = self.args[0].as_str();
        let remote = source.starts_with("http://") || source.starts_with("https://");
        let body: Box<dyn Read + Send> = match source {
            "-" => Box::new(io::stdin()),
            _ if remote => Box::new(io::empty()),
            path => Box::new(super::load::open(path)?),
        };
        let mut query = Query::new()
            .set("fromSrc", if remote { source } else { "-" })
            .text("message", &self.message)
            .text("platform", &self.platform.to_lowercase());
        if let Some(reference) = self.args.get(1) {
            wharf_vocab::ImageReference::parse(reference)
                .map_err(|bad| CliError::invalid(bad.to_string()))?;
            query = query.set("repo", reference);
        }
        for change in &self.change {
            query = query.set("changes", change);
        }
        let answer = session.client()?.upload("/images/create", query, body).await?;
        let width = terminal::stdout_is_terminal().then(|| terminal::size().1 as usize);
        show_all(answer, &mut Display::new(io::stdout(), width), |_| {}).await
    }
}
