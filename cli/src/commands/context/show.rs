//! `wharf context show`.

use crate::error::CliError;
use crate::session::{Session, println};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct ShowOptions {}

impl Options for ShowOptions {
    const USAGE: &'static str = "";
    const ABOUT: &'static str = "Print the name of the current context";
    const ARITY: Arity = Arity::None;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        println(&session.context_name())
    }
}
