//! What a verb is: its options, its words in the help, and the function that runs it.

use std::future::Future;
use std::pin::Pin;

use clap::{ArgMatches, Command};

use crate::error::CliError;
use crate::session::Session;

/// The options struct of a verb. Positional arguments are collected in a field named `args`.
pub(crate) trait Options: clap::Args + 'static {
    /// What follows the verb's name in the usage line.
    const USAGE: &'static str;
    const ABOUT: &'static str;
    /// How many positional arguments it takes.
    const ARITY: Arity;

    fn run(self, session: &Session) -> impl Future<Output = Result<(), CliError>>;
}

/// The number of positional arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Any,
}

impl Arity {
    /// docker's complaint if `count` does not fit.
    pub(crate) fn complaint(self, count: usize) -> Option<String> {
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        match self {
            Arity::None if count > 0 => Some("accepts no arguments".to_owned()),
            Arity::Exactly(n) if count != n => Some(format!("requires {n} argument{}", plural(n))),
            Arity::AtLeast(n) if count < n => Some(format!("requires at least {n} argument{}", plural(n))),
            Arity::AtMost(n) if count > n => Some(format!("requires at most {n} argument{}", plural(n))),
            _ => None,
        }
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), CliError>> + 'a>>;

/// One entry of the table of verbs.
#[derive(Clone, Copy)]
pub(crate) struct Verb {
    /// The name, then other names that do the same (`ls`, `list`).
    pub(crate) names: &'static [&'static str],
    pub(crate) about: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) arity: Arity,
    pub(crate) augment: fn(Command) -> Command,
    pub(crate) run: for<'a> fn(&'a mut ArgMatches, &'a Session) -> Running<'a>,
}

impl Verb {
    pub(crate) const fn of<O: Options>(names: &'static [&'static str]) -> Verb {
        Verb {
            names,
            about: O::ABOUT,
            usage: O::USAGE,
            arity: O::ARITY,
            augment: O::augment_args,
            run: |matches, session| {
                Box::pin(async move {
                    let options = O::from_arg_matches_mut(matches)
                        .map_err(|bad| CliError::Status { code: 125, text: bad.to_string() })?;
                    options.run(session).await
                })
            },
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.names[0]
    }
}

/// Verbs about one kind of object: `wharf container …`.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) verbs: &'static [Verb],
}

/// A verb found by the words of the command line.
pub(crate) struct Found {
    pub(crate) verb: Verb,
    /// `wharf container run`.
    pub(crate) path: String,
}
