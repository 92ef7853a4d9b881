//! `wharf container prune`.

use wharf_docker::container::PruneReport;

use crate::commands::prune::{confirm, reclaimed};
use crate::error::CliError;
use crate::options::filter::{self, Filters};
use crate::session::{Session, print};
use crate::transport::RequestBody;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct PruneOptions {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(long, short)]
    force: bool,
}

impl Options for PruneOptions {
    const USAGE: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Remove all stopped containers";
    const ARITY: Arity = Arity::None;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        if !self.force
            && !confirm(
                "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?",
            )?
        {
            return Err(CliError::invalid("container prune has been cancelled"));
        }
        let filters: Filters = self.filter.into_iter().collect();
        let query = Query::new().text("filters", &filters.to_query());
        let report: PruneReport =
            session.client()?.post("/containers/prune", query, RequestBody::Empty).await?.json().await?;
        let removed = report.containers_deleted.unwrap_or_default();
        let mut out = String::new();
        if !removed.is_empty() {
            out = format!("Deleted Containers:\n{}\n\n", removed.join("\n"));
        }
        print(&(out + &reclaimed(report.space_reclaimed)))
    }
}
