//! `wharf completion`.

use std::io;

use clap::Command;
use clap_complete::{Shell, generate};

use crate::error::CliError;
use crate::session::{Session, print};
use crate::verb::{Arity, Found, Options, Verb};

pub(super) const COMPLETION: Verb = Verb::of::<CompletionOptions>(&["completion"]);

#[derive(clap::Args, Debug)]
pub(crate) struct CompletionOptions {
    args: Vec<String>,
}

impl Options for CompletionOptions {
    const USAGE: &'static str = "bash|zsh|fish";
    const ABOUT: &'static str = "Generate the autocompletion script for the specified shell";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, _: &Session) -> Result<(), CliError> {
        let shell = match self.args[0].as_str() {
            "bash" => Shell::Bash,
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            other => {
                return Err(CliError::invalid(format!("unknown shell {other:?}: must be bash, zsh or fish")));
            }
        };
        let mut script = Vec::new();
        generate(shell, &mut whole(), "wharf", &mut script);
        let script = String::from_utf8(script).map_err(|bad| CliError::Io {
            act: "completion".to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidData, bad),
        })?;
        print(&script)
    }
}

/// All verbs as one command, which nothing else needs.
fn whole() -> Command {
    let command = |verb: &Verb| {
        let found = Found { verb: *verb, path: String::new() };
        crate::flags::command(&found).about(verb.about).visible_aliases(verb.names[1..].iter().copied())
    };
    let mut root = Command::new("wharf").subcommands(super::VERBS.iter().map(command));
    for group in super::GROUPS {
        let verbs = Command::new(group.name).about(group.about).subcommands(group.verbs.iter().map(command));
        root = root.subcommand(verbs);
    }
    root
}
