//! `wharf push`.

use http::Method;
use wharf_vocab::ImageReference;

use crate::config::registry_auth;
use crate::error::CliError;
use crate::output::progress::{Display, show_all};
use crate::session::{Session, println};
use crate::terminal;
use crate::transport::RequestBody;
use crate::transport::url::{Query, escape_path};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct PushOptions {
    /// Push all tags of an image to the repository
    #[arg(long, short)]
    all_tags: bool,
    /// Skip image signing (default true)
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// Suppress verbose output
    #[arg(long, short)]
    quiet: bool,
    args: Vec<String>,
}

impl Options for PushOptions {
    const USAGE: &'static str = "[OPTIONS] NAME[:TAG]";
    const ABOUT: &'static str = "Upload an image to a registry";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let mut reference =
            ImageReference::parse(&self.args[0]).map_err(|bad| CliError::invalid(bad.to_string()))?;
        if self.all_tags && reference.tag().is_some() {
            return Err(CliError::invalid("tag can't be used with --all-tags/-a"));
        }
        if !self.all_tags && reference.tag().is_none() {
            reference = reference.with_default_tag();
            if !self.quiet {
                println("Using default tag: latest")?;
            }
        }
        let query = Query::new().text("tag", reference.tag().unwrap_or_default());
        // the API wants the header even when there are no credentials
        let auth =
            registry_auth(session.config(), &reference.to_string())?.unwrap_or_else(|| "e30=".to_owned());
        let path = format!("/images/{}/push", escape_path(&reference.familiar_name()));
        let answer = session
            .client()?
            .send_with(Method::POST, &path, query, RequestBody::Empty, &[("X-Registry-Auth", auth)])
            .await?;
        if self.quiet {
            show_all(answer, &mut Display::new(std::io::sink(), None), |_| {}).await?;
            return println(&reference.to_string());
        }
        let width = terminal::stdout_is_terminal().then(|| terminal::size().1 as usize);
        show_all(answer, &mut Display::new(std::io::stdout(), width), |_| {}).await
    }
}
