//! `wharf top`.

use wharf_docker::container::TopResponse;

use crate::error::CliError;
use crate::output::tabwriter;
use crate::session::{Session, print};
use crate::transport::url::{Query, escape_path};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct TopOptions {
    #[arg(trailing_var_arg = true)]
    args: Vec<String>,
}

impl Options for TopOptions {
    const USAGE: &'static str = "CONTAINER [ps OPTIONS]";
    const ABOUT: &'static str = "Display the running processes of a container";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let path = format!("/containers/{}/top", escape_path(&self.args[0]));
        let query = Query::new().text("ps_args", &self.args[1..].join(" "));
        let top: TopResponse = session.client()?.get(&path, query).await?.json().await?;
        let mut text = top.titles.join("\t") + "\n";
        for process in &top.processes {
            text.push_str(&(process.join("\t") + "\n"));
        }
        print(&tabwriter::align(&text, tabwriter::TOP))
    }
}
