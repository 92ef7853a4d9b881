//! `wharf create`, and the making of containers that `run` shares.

use std::io::Write as _;

use http::Method;
use wharf_docker::container::CreateResponse;
use wharf_vocab::ImageReference;

use super::flags::ContainerFlags;
use super::plan::{CreateRequest, plan};
use crate::commands::image;
use crate::error::CliError;
use crate::session::{Session, env, println, warn};
use crate::terminal;
use crate::transport::RequestBody;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct CreateOptions {
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Options for CreateOptions {
    const USAGE: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";
    const ABOUT: &'static str = "Create a new container";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let making = Making::of(session, self.flags).map_err(|text| with_help(text, "create", 125))?;
        println(&making.create(session).await?)
    }
}

/// docker's wording of an error of `run` and `create`.
pub(super) fn with_help(text: impl std::fmt::Display, verb: &str, code: u8) -> CliError {
    CliError::Status {
        code,
        text: format!("wharf: {text}\n\nRun 'wharf {verb} --help' for more information"),
    }
}

/// A container about to be made.
pub(super) struct Making {
    pub(super) request: CreateRequest,
    name: String,
    platform: String,
    pull: String,
    quiet: bool,
    cidfile: String,
}

impl Making {
    /// Checks the flags and adds the configuration's proxy variables.
    pub(super) fn of(session: &Session, mut flags: ContainerFlags) -> Result<Making, String> {
        let host = session.host().map_err(|bad| bad.to_string())?;
        let mut variables = session.config().proxy_env(&host, &flags.env);
        variables.append(&mut flags.env);
        flags.env = variables;
        let platform = flags.platform.clone().or_else(|| env("DOCKER_DEFAULT_PLATFORM")).unwrap_or_default();
        Ok(Making {
            name: flags.name.clone(),
            platform,
            pull: flags.pull.clone(),
            quiet: flags.quiet,
            cidfile: flags.cidfile.clone(),
            request: plan(flags)?,
        })
    }

    /// Makes it, pulling the image as asked; returns its id.
    pub(super) async fn create(mut self, session: &Session) -> Result<String, CliError> {
        if !self.platform.is_empty() {
            wharf_vocab::Platform::parse(&self.platform)
                .map_err(|bad| CliError::invalid(format!("error parsing specified platform: {bad}")))?;
        }
        let cidfile = CidFile::create(&self.cidfile)?;
        let image = self.request.config.image.clone();
        let reference = reference(&image)?;
        if self.pull == "always" {
            image::pull_quietly(session, &image, &self.platform, self.quiet).await?;
        }
        self.request.host_config.console_size = terminal::size();
        let created = match self.post(session).await {
            Err(missing) if missing.is_not_found() && self.pull == "missing" && reference.is_some() => {
                if !self.quiet
                    && let Some(reference) = &reference
                {
                    warn(&format!("Unable to find image '{}' locally", reference.familiar()));
                }
                image::pull_quietly(session, &image, &self.platform, self.quiet).await?;
                self.post(session).await?
            }
            other => other?,
        };
        for warning in &created.warnings {
            warn(&format!("WARNING: {warning}"));
        }
        cidfile.write(&created.id)?;
        Ok(created.id)
    }

    async fn post(&self, session: &Session) -> Result<CreateResponse, CliError> {
        let query = Query::new().text("name", &self.name).text("platform", &self.platform);
        let body = RequestBody::json(&self.request)?;
        let answer = session.client()?.send(Method::POST, "/containers/create", query, body).await?;
        Ok(answer.json().await?)
    }
}

/// The image as a name, or None if it is an id; malformed names are refused.
fn reference(image: &str) -> Result<Option<ImageReference>, CliError> {
    let is_id = image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id || image.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64) {
        return Ok(None);
    }
    match ImageReference::parse(image) {
        Ok(reference) => Ok(Some(reference.with_default_tag())),
        Err(bad) => Err(CliError::invalid(bad.to_string())),
    }
}

/// The file that gets the id; it must not exist before, and is removed if no container comes of it.
struct CidFile {
    path: Option<std::path::PathBuf>,
    file: Option<std::fs::File>,
}

impl CidFile {
    fn create(path: &str) -> Result<CidFile, CliError> {
        if path.is_empty() {
            return Ok(CidFile { path: None, file: None });
        }
        match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(CidFile { path: Some(path.into()), file: Some(file) }),
            Err(there) if there.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(CliError::invalid(format!(
                    "container ID file found, make sure the other container isn't running or delete {path}"
                )))
            }
            Err(bad) => Err(CliError::invalid(format!("failed to create the container ID file: {bad}"))),
        }
    }

    fn write(mut self, id: &str) -> Result<(), CliError> {
        if let Some(mut file) = self.file.take() {
            file.write_all(id.as_bytes()).map_err(|bad| {
                CliError::invalid(format!("failed to write the container ID ({id}) to file: {bad}"))
            })?;
            self.path = None;
        }
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // the error that led here is the one to report
            let _ = std::fs::remove_file(path);
        }
    }
}
