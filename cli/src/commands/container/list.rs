//! `wharf ps`.

use wharf_docker::container::Summary;

use super::row::{HEADERS, row};
use crate::error::CliError;
use crate::flags::go_int;
use crate::options::filter::{self, Filters};
use crate::output::format::RowFormat;
use crate::session::{Session, print, warn};
use crate::template::{Dialect, Template};
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct ListOptions {
    /// Show all containers (default shows just running)
    #[arg(long, short)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(long, short, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    /// Format output using a custom template: 'table' (default), 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "")]
    format: String,
    /// Show n last created containers (includes all states) (default -1)
    #[arg(long, short = 'n', value_name = "int", default_value_t = -1, allow_hyphen_values = true, value_parser = go_int)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(long, short)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(long, short)]
    quiet: bool,
    /// Display total file sizes
    #[arg(long, short)]
    size: bool,
}

const TABLE: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";

fn source(format: &str, quiet: bool, size: bool) -> String {
    match format {
        "raw" if quiet => "container_id: {{.ID}}".to_owned(),
        "raw" => format!("{RAW}{}", if size { "size: {{.Size}}\\n" } else { "" }),
        _ if quiet => "{{.ID}}".to_owned(),
        "" | "table" => format!("{TABLE}{}", if size { "\t{{.Size}}" } else { "" }),
        custom => custom.to_owned(),
    }
}

/// docker tries a format on a container that is none, before it asks the daemon.
fn check(format: &str) -> Result<(), CliError> {
    if matches!(format, "json" | "raw") {
        return Ok(());
    }
    let template = Template::parse("", format)
        .map_err(|bad| CliError::invalid(format!("failed to parse template: {bad}")))?;
    template
        .render(&row(&Summary::default(), true).into(), Dialect::Row)
        .map(|_| ())
        .map_err(|bad| CliError::invalid(format!("failed to execute template: {bad}")))
}

impl Options for ListOptions {
    const USAGE: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "List containers";
    const ARITY: Arity = Arity::None;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let mut wanted = self.format.clone();
        if wanted.is_empty() {
            wanted.clone_from(&session.config().ps_format);
        } else if self.quiet {
            warn("WARNING: Ignoring custom format, because both --format and --quiet are set.");
        }
        if !self.quiet {
            check(&wanted)?;
        }
        let format = RowFormat::parse(&source(&wanted, self.quiet, self.size))?;
        // sizes are expensive: only if they are shown
        let size = self.size || (!self.quiet && wanted != "json" && format.mentions("Size"));
        let last = if self.latest && self.last == -1 { 1 } else { self.last };
        let filters: Filters = self.filter.into_iter().collect();
        let mut query = Query::new().flag("all", self.all || last > 0).flag("size", size);
        if last > 0 {
            query = query.set("limit", last.to_string());
        }
        let query = query.text("filters", &filters.to_query());
        let containers: Vec<Summary> = session.client()?.get("/containers/json", query).await?.json().await?;
        print(&format.render(HEADERS, containers.iter().map(|container| row(container, !self.no_trunc)))?)
    }
}
