//! `wharf pull`, and the pull that `run` and `create` do on their own.

use std::io;

use http::Method;
use wharf_vocab::ImageReference;

use crate::config::registry_auth;
use crate::error::CliError;
use crate::output::progress::{Display, show_all};
use crate::session::{Session, env, println};
use crate::terminal;
use crate::transport::RequestBody;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct PullOptions {
    /// Download all tagged images in the repository
    #[arg(long, short)]
    all_tags: bool,
    /// Skip image verification (default true)
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(long, short)]
    quiet: bool,
    args: Vec<String>,
}

impl Options for PullOptions {
    const USAGE: &'static str = "[OPTIONS] NAME[:TAG|@DIGEST]";
    const ABOUT: &'static str = "Download an image from a registry";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let mut reference =
            ImageReference::parse(&self.args[0]).map_err(|bad| CliError::invalid(bad.to_string()))?;
        let name_only = reference.tag().is_none() && reference.digest().is_none();
        if self.all_tags && !name_only {
            return Err(CliError::invalid("tag can't be used with --all-tags/-a"));
        }
        if !self.all_tags && name_only {
            reference = reference.with_default_tag();
            if !self.quiet {
                println("Using default tag: latest")?;
            }
        }
        let platform = self.platform.or_else(|| env("DOCKER_DEFAULT_PLATFORM")).unwrap_or_default();
        let width = terminal::stdout_is_terminal().then(|| columns(terminal::size()));
        if self.quiet {
            pull(session, &reference, &platform, Display::new(io::sink(), None)).await?;
        } else {
            pull(session, &reference, &platform, Display::new(io::stdout(), width)).await?;
        }
        println(&reference.to_string())
    }
}

fn columns((_, width): (u32, u32)) -> usize {
    if width == 0 { 200 } else { width as usize }
}

/// Pulls for a verb whose own output goes to standard output: progress goes to standard error.
pub(crate) async fn pull_quietly(
    session: &Session,
    image: &str,
    platform: &str,
    quiet: bool,
) -> Result<(), CliError> {
    let reference = ImageReference::parse(image).map_err(|bad| CliError::invalid(bad.to_string()))?;
    if quiet {
        return pull(session, &reference.with_default_tag(), platform, Display::new(io::sink(), None)).await;
    }
    let stderr = rustix::stdio::stderr();
    let width = rustix::termios::isatty(stderr)
        .then(|| rustix::termios::tcgetwinsize(stderr).map_or(200, |size| columns((0, size.ws_col.into()))));
    pull(session, &reference.with_default_tag(), platform, Display::new(io::stderr(), width)).await
}

async fn pull<W: io::Write>(
    session: &Session,
    reference: &ImageReference,
    platform: &str,
    mut display: Display<W>,
) -> Result<(), CliError> {
    let tag = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or_default().to_owned(),
    };
    let query = Query::new()
        .set("fromImage", reference.familiar_name())
        .text("tag", &tag)
        .text("platform", &platform.to_lowercase());
    let auth = registry_auth(session.config(), &reference.to_string())?;
    let headers: Vec<(&str, String)> = auth.into_iter().map(|auth| ("X-Registry-Auth", auth)).collect();
    let answer = session
        .client()?
        .send_with(Method::POST, "/images/create", query, RequestBody::Empty, &headers)
        .await?;
    show_all(answer, &mut display, |_| {}).await
}
