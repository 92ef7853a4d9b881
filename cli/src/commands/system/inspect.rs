//! `wharf inspect`: objects of any kind.

use crate::commands::{container, image};
use crate::error::CliError;
use crate::output::inspect::{Element, Inspector};
use crate::session::{Session, print, warn};
use crate::transport::Client;
use crate::transport::url::{Query, escape_path};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct InspectOptions {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(long, short, value_name = "string", default_value = "")]
    format: String,
    /// Display total file sizes if the type is container
    #[arg(long, short)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long, value_name = "string")]
    r#type: Option<String>,
    args: Vec<String>,
}

/// The kinds that docker names, those first that this client knows, in the order they are tried.
const KNOWN: &[&str] = &["container", "image", "network", "volume"];
const ALL: &str =
    r#""config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume""#;

impl Options for InspectOptions {
    const USAGE: &'static str = "[OPTIONS] NAME|ID [NAME|ID...]";
    const ABOUT: &'static str = "Return low-level information on Wharf objects";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let kind = match self.r#type.as_deref() {
            None => None,
            Some("") => return Err(CliError::invalid(format!("type is empty: must be one of {ALL}"))),
            Some(kind) if KNOWN.contains(&kind) => Some(kind),
            Some(kind) if ALL.contains(&format!("{kind:?}")) => {
                return Err(CliError::invalid(format!("objects of type {kind:?} are not supported yet")));
            }
            Some(kind) => {
                return Err(CliError::invalid(format!("unknown type: {kind:?}: must be one of {ALL}")));
            }
        };
        let inspector = Inspector::parse(&self.format)?;
        let client = session.client()?;
        let (mut elements, mut errors) = (Vec::new(), Vec::new());
        for name in &self.args {
            match find(client, name, kind, self.size).await {
                Ok(element) => elements.push(element),
                Err(bad) => errors.push(bad),
            }
        }
        print(&inspector.show(&elements, &mut errors))?;
        crate::error::all(errors)
    }
}

async fn find(client: &Client, name: &str, wanted: Option<&str>, size: bool) -> Result<Element, CliError> {
    for kind in KNOWN.iter().filter(|kind| wanted.is_none_or(|wanted| wanted == **kind)) {
        let found = match *kind {
            "container" => container::element(client, name, size).await,
            "image" => image::element(client, name, Query::new()).await,
            kind => other(client, kind, name).await,
        };
        match found {
            Ok(element) => {
                if size && *kind != "container" {
                    warn(&format!("WARNING: --size ignored for {kind}"));
                }
                return Ok(element);
            }
            Err(bad) if wanted.is_none() && skippable(&bad) => {}
            Err(bad) => return Err(bad),
        }
    }
    Err(CliError::invalid(format!("Error: No such object: {name}")))
}

/// The name may be one of another kind.
fn skippable(bad: &CliError) -> bool {
    let text = bad.to_string();
    bad.is_not_found() || text.contains("not supported") || text.contains("invalid reference format")
}

async fn other(client: &Client, kind: &str, name: &str) -> Result<Element, CliError> {
    let path = format!("/{kind}s/{}", escape_path(name));
    let bytes = client.get(&path, Query::new()).await?.bytes().await?;
    Ok(Element { raw: String::from_utf8_lossy(&bytes).into_owned(), value: None })
}
