//! `wharf history`.

use wharf_docker::image::HistoryItem;

use super::load::platform_json;
use crate::error::CliError;
use crate::output::format::RowFormat;
use crate::output::text::{ellipsis, rfc3339, short_id, since};
use crate::output::units::human_size;
use crate::session::{Session, print};
use crate::template::{Struct, Value};
use crate::transport::url::{Query, escape_path};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct HistoryOptions {
    /// Format output using a custom template: 'table' (default), 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "table")]
    format: String,
    /// Print sizes and dates in human readable format (default true)
    #[arg(long, short = 'H', default_value = "true")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string", default_value = "")]
    platform: String,
    /// Only show image IDs
    #[arg(long, short)]
    quiet: bool,
    args: Vec<String>,
}

const HEADERS: &[(&str, &str)] = &[
    ("Comment", "COMMENT"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("CreatedSince", "CREATED"),
    ("ID", "IMAGE"),
    ("Size", "SIZE"),
];

/// 2000-01-01: what is older has no date worth showing.
const OLDEST: i64 = 946_684_800;

fn row(item: &HistoryItem, trunc: bool, human: bool) -> Struct {
    let created_at = rfc3339(item.created);
    let created_since = match () {
        () if !human => created_at.clone(),
        () if item.created <= OLDEST => "N/A".to_owned(),
        () => since(item.created) + " ago",
    };
    let created_by = item.created_by.replace('\t', " ");
    let size = if human { human_size(item.size as f64, 3) } else { item.size.to_string() };
    Struct::row(
        "*image.historyContext",
        vec![
            ("Comment", Value::str(&item.comment)),
            ("CreatedAt", Value::Str(created_at)),
            ("CreatedBy", Value::Str(if trunc { ellipsis(&created_by, 45) } else { created_by })),
            ("CreatedSince", Value::Str(created_since)),
            ("ID", Value::Str(if trunc { short_id(&item.id) } else { item.id.clone() })),
            ("Size", Value::Str(size)),
        ],
    )
}

impl Options for HistoryOptions {
    const USAGE: &'static str = "[OPTIONS] IMAGE";
    const ABOUT: &'static str = "Show the history of an image";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let source = match self.format.as_str() {
            "table" | "" if self.quiet => "{{.ID}}",
            "table" | "" if self.human => {
                "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
            }
            "table" | "" => "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            custom => custom,
        };
        let format = RowFormat::parse(source)?;
        let query = Query::new().text("platform", &platform_json(&self.platform)?);
        let path = format!("/images/{}/history", escape_path(&self.args[0]));
        let items: Vec<HistoryItem> = session.client()?.get(&path, query).await?.json().await?;
        print(&format.render(HEADERS, items.iter().map(|item| row(item, !self.no_trunc, self.human)))?)
    }
}
