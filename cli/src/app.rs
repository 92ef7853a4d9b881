//! From the command line to a verb: options of the program, then the verb's own.

use crate::commands::{GROUPS, VERBS};
use crate::error::CliError;
use crate::flags::{self, Refused};
use crate::globals::Globals;
use crate::help;
use crate::session::{Session, print, println};
use crate::verb::{Arity, Found, Verb};
use clap::{Args as _, FromArgMatches as _};

const ROOT: Verb = Verb {
    names: &["wharf"],
    about: "",
    usage: "[OPTIONS] COMMAND [ARG...]",
    arity: Arity::Any,
    augment: Globals::augment_args,
    run: |_, _| Box::pin(async { Ok(()) }),
};

/// Runs the command line `args` (without the program's name).
pub(crate) async fn run(args: &[String]) -> Result<(), CliError> {
    let root = Found { verb: ROOT, path: "wharf".to_owned() };
    let mut matches = match flags::parse(&root, args) {
        Ok(matches) => matches,
        Err(Refused::Help(_)) => return print(&help::root(&flags::command(&root))),
        Err(Refused::Error(bad)) => return Err(bad),
    };
    let globals = Globals::from_arg_matches_mut(&mut matches)
        .map_err(|bad| CliError::Status { code: 125, text: bad.to_string() })?;
    if globals.version {
        return println(&format!("Wharf version {}", env!("CARGO_PKG_VERSION")));
    }
    let words = globals.args.clone();
    let (found, rest) = match find(&words)? {
        Some(found) => found,
        None => return print(&group_or_root_help(&words, &root)),
    };
    match flags::parse(&found, rest) {
        Ok(mut matches) => {
            let session = Session::new(globals, found.path)?;
            (found.verb.run)(&mut matches, &session).await
        }
        Err(Refused::Help(text)) => print(&text),
        Err(Refused::Error(bad)) => Err(bad),
    }
}

fn group_or_root_help(words: &[String], root: &Found) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "help").collect();
    match words.first().and_then(|name| GROUPS.iter().find(|group| group.name == *name)) {
        Some(group) => help::group(group),
        None => help::root(&flags::command(root)),
    }
}

/// The verb that `words` begin with, and the words behind it. None asks for the help of a group or of all.
fn find(words: &[String]) -> Result<Option<(Found, &[String])>, CliError> {
    let Some((first, rest)) = words.split_first() else { return Ok(None) };
    if first == "help" {
        return help_of(rest);
    }
    if let Some(group) = GROUPS.iter().find(|group| group.name == first) {
        let Some((second, rest)) = rest.split_first() else { return Ok(None) };
        if matches!(second.as_str(), "--help" | "-h" | "help") {
            return Ok(None);
        }
        let Some(verb) = group.verbs.iter().find(|verb| verb.names.contains(&second.as_str())) else {
            if second.starts_with('-') {
                let text = format!(
                    "unknown flag: {second}\n\nUsage:  wharf {first} COMMAND\n\nRun 'wharf {first} --help' for more information"
                );
                return Err(CliError::Status { code: 125, text });
            }
            let text = format!(
                "wharf: unknown command: wharf {first} {second}\n\nUsage:  wharf {first}\n\nRun 'wharf {first} --help' for more information"
            );
            return Err(CliError::Status { code: 1, text });
        };
        return Ok(Some((Found { verb: *verb, path: format!("wharf {first} {second}") }, rest)));
    }
    match VERBS.iter().find(|verb| verb.names.contains(&first.as_str())) {
        Some(verb) => Ok(Some((Found { verb: *verb, path: format!("wharf {first}") }, rest))),
        None => {
            let text =
                format!("wharf: unknown command: wharf {first}\n\nRun 'wharf --help' for more information");
            Err(CliError::Status { code: 1, text })
        }
    }
}

/// `wharf help run` is `wharf run --help`.
fn help_of(words: &[String]) -> Result<Option<(Found, &[String])>, CliError> {
    match find(words)? {
        None => Ok(None),
        Some((found, _)) => {
            print(&help::verb(&found, &flags::command(&found)))?;
            Err(CliError::exit(0))
        }
    }
}
