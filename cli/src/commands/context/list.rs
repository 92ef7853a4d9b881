//! `wharf context ls`.

use crate::config::DEFAULT_CONTEXT;
use crate::error::CliError;
use crate::output::format::RowFormat;
use crate::output::text::ellipsis;
use crate::session::{Session, env, print, warn};
use crate::template::{Struct, Value};
use crate::transport::DEFAULT_HOST;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct ListOptions {
    /// Format output using a custom template: 'table' (default), 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "table")]
    format: String,
    /// Only show context names
    #[arg(long, short)]
    quiet: bool,
}

const HEADERS: &[(&str, &str)] = &[
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Error", "ERROR"),
    ("Name", "NAME"),
];

const TABLE: &str =
    "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";

struct Row {
    name: String,
    description: String,
    host: String,
    error: String,
}

impl Options for ListOptions {
    const USAGE: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "List contexts";
    const ARITY: Arity = Arity::None;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let source = match self.format.as_str() {
            _ if self.quiet => "{{.Name}}",
            "table" | "" => TABLE,
            custom => custom,
        };
        let format = RowFormat::parse(source)?;
        let current = session.context_name();
        let store = session.contexts();
        let mut rows = vec![Row {
            name: DEFAULT_CONTEXT.to_owned(),
            description: "Current DOCKER_HOST based configuration".to_owned(),
            host: env("DOCKER_HOST").unwrap_or_else(|| DEFAULT_HOST.to_owned()),
            error: String::new(),
        }];
        rows.extend(store.list().into_iter().map(|context| Row {
            description: context.description().to_owned(),
            host: context.host().to_owned(),
            name: context.name,
            error: String::new(),
        }));
        if !rows.iter().any(|row| row.name == current) {
            let error = store.get(&current).err().map(|bad| bad.to_string()).unwrap_or_default();
            rows.push(Row { name: current.clone(), description: String::new(), host: String::new(), error });
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = rows.into_iter().map(|row| {
            Struct::row(
                "*formatter.clientContextContext",
                vec![
                    ("Current", Value::Bool(row.name == current)),
                    ("Description", Value::Str(row.description)),
                    ("DockerEndpoint", Value::Str(row.host)),
                    ("Error", Value::Str(ellipsis(&row.error, 45))),
                    ("Name", Value::Str(row.name)),
                ],
            )
        });
        print(&format.render(HEADERS, rows)?)?;
        if env("DOCKER_HOST").is_some() {
            warn(
                "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable.",
            );
        }
        Ok(())
    }
}
