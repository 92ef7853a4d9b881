//! `wharf context inspect`.

use serde_json::json;

use crate::config::{Context, DEFAULT_CONTEXT};
use crate::error::CliError;
use crate::output::inspect::{Element, Inspector};
use crate::session::{Session, env, print};
use crate::template::{Struct, Value};
use crate::transport::DEFAULT_HOST;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct InspectOptions {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(long, short, value_name = "string", default_value = "")]
    format: String,
    args: Vec<String>,
}

impl Options for InspectOptions {
    const USAGE: &'static str = "[OPTIONS] [CONTEXT] [CONTEXT...]";
    const ABOUT: &'static str = "Display detailed information on one or more contexts";
    const ARITY: Arity = Arity::Any;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let inspector = Inspector::parse(&self.format)?;
        let names = if self.args.is_empty() { vec![session.context_name()] } else { self.args };
        let (mut elements, mut errors) = (Vec::new(), Vec::new());
        for name in &names {
            match element(session, name) {
                Ok(element) => elements.push(element),
                Err(bad) => errors.push(bad),
            }
        }
        print(&inspector.show(&elements, &mut errors))?;
        crate::error::all(errors)
    }
}

fn element(session: &Session, name: &str) -> Result<Element, CliError> {
    let store = session.contexts();
    let in_memory = name == DEFAULT_CONTEXT;
    let (endpoints, metadata) = if in_memory {
        let host = env("DOCKER_HOST").unwrap_or_else(|| DEFAULT_HOST.to_owned());
        (json!({"docker": {"Host": host, "SkipTLSVerify": false}}), json!({}))
    } else {
        let Context { endpoints, metadata, .. } = store.get(name)?;
        (json!(endpoints), json!(metadata))
    };
    let dir = |dir: std::path::PathBuf| {
        if in_memory { "<IN MEMORY>".to_owned() } else { dir.to_string_lossy().into_owned() }
    };
    let storage = Struct::ordered(
        "context.storage",
        vec![
            ("MetadataPath", Some(Value::Str(dir(store.meta_dir(name))))),
            ("TLSPath", Some(Value::Str(dir(store.tls_dir(name))))),
        ],
    );
    let plain = |json: serde_json::Value| serde_json::from_value(json).unwrap_or(Value::NIL);
    let value: Value = Struct::ordered(
        "context.contextWithTLSListing",
        vec![
            ("Name", Some(Value::str(name))),
            ("Metadata", Some(plain(metadata))),
            ("Endpoints", Some(plain(endpoints))),
            ("TLSMaterial", Some(Value::Map(Vec::new()))),
            ("Storage", Some(storage.into())),
        ],
    )
    .into();
    Ok(Element { raw: value.to_json(), value: Some(value) })
}
