//! `wharf rmi`.

use wharf_docker::image::Deleted;

use super::load::platform_json;
use crate::error::CliError;
use crate::session::{Session, println, warn};
use crate::transport::url::{Query, escape_path};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct RmiOptions {
    /// Force removal of the image
    #[arg(long, short)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<String>,
    args: Vec<String>,
}

impl Options for RmiOptions {
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ABOUT: &'static str = "Remove one or more images";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = session.client()?;
        let mut query = Query::new().flag("force", self.force).flag("noprune", self.no_prune);
        for platform in &self.platform {
            query = query.set("platforms", platform_json(platform)?);
        }
        let mut errors: Vec<CliError> = Vec::new();
        for name in &self.args {
            let path = format!("/images/{}", escape_path(name));
            let removed: Result<Vec<Deleted>, _> =
                async { client.delete(&path, query.clone()).await?.json().await }.await;
            match removed {
                Ok(removed) => {
                    for entry in removed {
                        if entry.deleted.is_empty() {
                            println(&format!("Untagged: {}", entry.untagged))?;
                        } else {
                            println(&format!("Deleted: {}", entry.deleted))?;
                        }
                    }
                }
                Err(bad) => errors.push(bad.into()),
            }
        }
        if self.force && errors.iter().all(CliError::is_not_found) {
            // with --force an image that is not there is removed enough
            errors.drain(..).for_each(|bad| warn(&bad.to_string()));
        }
        crate::error::all(errors)
    }
}
