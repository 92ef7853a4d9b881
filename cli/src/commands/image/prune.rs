//! `wharf image prune`.

use wharf_docker::image::PruneReport;

use crate::commands::prune::{confirm, reclaimed};
use crate::error::CliError;
use crate::options::filter::{self, Filters};
use crate::session::{Session, print};
use crate::transport::RequestBody;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct PruneOptions {
    /// Remove all unused images, not just dangling ones
    #[arg(long, short)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(long, short)]
    force: bool,
}

impl Options for PruneOptions {
    const USAGE: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Remove unused images";
    const ARITY: Arity = Arity::None;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let warning = if self.all {
            "WARNING! This will remove all images without at least one container associated to them."
        } else {
            "WARNING! This will remove all dangling images."
        };
        if !self.force && !confirm(&format!("{warning}\nAre you sure you want to continue?"))? {
            return Err(CliError::invalid("image prune has been cancelled"));
        }
        let mut filters: Filters = self.filter.into_iter().collect();
        filters.add("dangling", if self.all { "false" } else { "true" });
        let query = Query::new().text("filters", &filters.to_query());
        let report: PruneReport =
            session.client()?.post("/images/prune", query, RequestBody::Empty).await?.json().await?;
        let removed = report.images_deleted.unwrap_or_default();
        let mut out = String::new();
        if !removed.is_empty() {
            out.push_str("Deleted Images:\n");
            for entry in &removed {
                if entry.untagged.is_empty() {
                    out.push_str(&format!("deleted: {}\n", entry.deleted));
                } else {
                    out.push_str(&format!("untagged: {}\n", entry.untagged));
                }
            }
            out.push('\n');
        }
        print(&(out + &reclaimed(report.space_reclaimed)))
    }
}
