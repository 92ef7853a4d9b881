//! `wharf image inspect`.

use wharf_docker::image::Inspect;

use super::load::platform_json;
use crate::error::CliError;
use crate::output::inspect::{Element, Inspector};
use crate::session::{Session, print};
use crate::template::to_value;
use crate::transport::url::{Query, escape_path};
use crate::transport::{Client, decode};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct InspectOptions {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(long, short, value_name = "string", default_value = "")]
    format: String,
    /// Inspect a specific platform of the multi-platform image
    #[arg(long, value_name = "string", default_value = "")]
    platform: String,
    args: Vec<String>,
}

/// An image as the inspect verbs show it.
pub(crate) async fn element(client: &Client, name: &str, query: Query) -> Result<Element, CliError> {
    let path = format!("/images/{}/json", escape_path(name));
    let bytes = client.get(&path, query).await?.bytes().await?;
    let typed: Inspect = decode("inspect", &bytes)?;
    Ok(Element { raw: String::from_utf8_lossy(&bytes).into_owned(), value: Some(to_value(&typed)?) })
}

impl Options for InspectOptions {
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ABOUT: &'static str = "Display detailed information on one or more images";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let inspector = Inspector::parse(&self.format)?;
        let client = session.client()?;
        let query = Query::new().text("platform", &platform_json(&self.platform)?);
        let (mut elements, mut errors) = (Vec::new(), Vec::new());
        for name in &self.args {
            match element(client, name, query.clone()).await {
                Ok(element) => elements.push(element),
                Err(bad) => errors.push(bad),
            }
        }
        print(&inspector.show(&elements, &mut errors))?;
        crate::error::all(errors)
    }
}
