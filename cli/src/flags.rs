//! Reading a verb's arguments with clap, worded and coded as docker's pflag does.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::error::CliError;
use crate::help;
use crate::verb::{Arity, Found};

/// Why the arguments were not taken.
pub(crate) enum Refused {
    /// `--help`: the text to print.
    Help(String),
    Error(CliError),
}

/// The clap command of one verb.
pub(crate) fn command(found: &Found) -> Command {
    let command = Command::new(found.verb.name())
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true);
    settle((found.verb.augment)(command))
}

/// Lets switches take `=true` or `=false`, lets the last of repeated options win, and adds `--help`.
fn settle(command: Command) -> Command {
    let command = command.args_override_self(true).mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => {
            let unset = arg.get_default_values().is_empty();
            let arg = arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(go_bool);
            if unset { arg.default_value("false") } else { arg }
        }
        _ => arg,
    });
    let taken = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    let help = Arg::new("help").long("help").help("Print usage").action(ArgAction::Help).hide(!taken);
    command.arg(if taken { help } else { help.short('h') })
}

/// Go's `strconv.ParseBool`.
pub(crate) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Go's `strconv.ParseInt` of base 0 or 10.
pub(crate) fn go_int(text: &str) -> Result<i64, String> {
    text.parse().map_err(|bad: std::num::ParseIntError| {
        let why = match bad.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {why}")
    })
}

/// Go's `strconv.ParseUint` of 16 bits.
pub(crate) fn go_uint16(text: &str) -> Result<u16, String> {
    text.parse().map_err(|bad: std::num::ParseIntError| {
        let why = match bad.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseUint: parsing {text:?}: {why}")
    })
}

/// Parses `args`, which come after the verb.
pub(crate) fn parse(found: &Found, args: &[String]) -> Result<ArgMatches, Refused> {
    let command = command(found);
    let shown = command.clone();
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(bad) if bad.kind() == ErrorKind::DisplayHelp => {
            return Err(Refused::Help(help::verb(found, &shown)));
        }
        Err(bad) => return Err(Refused::Error(worded(found, &shown, args, &bad))),
    };
    let count = positionals(&matches);
    match found.verb.arity.complaint(count) {
        Some(complaint) => Err(Refused::Error(arity(found, &complaint))),
        None => Ok(matches),
    }
}

fn positionals(matches: &ArgMatches) -> usize {
    match matches.try_get_many::<String>("args") {
        Ok(Some(values)) => values.len(),
        _ => 0,
    }
}

fn arity(found: &Found, complaint: &str) -> CliError {
    let path = &found.path;
    let see = if matches!(found.verb.arity, Arity::AtLeast(_)) { "See" } else { "Run" };
    let text = format!(
        "wharf: '{path}' {complaint}\n\nUsage:  {path} {}\n\n{see} '{path} --help' for more information",
        found.verb.usage
    );
    CliError::Status { code: 1, text }
}

fn worded(found: &Found, command: &Command, args: &[String], bad: &clap::Error) -> CliError {
    let text = |kind| match bad.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let name = text(ContextKind::InvalidArg).unwrap_or_default();
    let complaint = match bad.kind() {
        ErrorKind::UnknownArgument if !name.starts_with('-') => {
            return arity(found, &Arity::None.complaint(1).unwrap_or_default());
        }
        ErrorKind::UnknownArgument => unknown(&name, args),
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) => {
            missing_value(command, &name, args)
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let why = std::error::Error::source(bad).map(ToString::to_string).unwrap_or_default();
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            format!(
                "invalid argument {} for \"{}\" flag: {why}",
                crate::template::quote::quote(&value),
                flag_name(command, &name)
            )
        }
        _ => bad.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let path = &found.path;
    let usage = found.verb.usage;
    CliError::Status {
        code: 125,
        text: format!("{complaint}\n\nUsage:  {path} {usage}\n\nRun '{path} --help' for more information"),
    }
}

fn unknown(name: &str, args: &[String]) -> String {
    if name.starts_with("--") {
        return format!("unknown flag: {}", name.split('=').next().unwrap_or(name));
    }
    let letter = name.chars().nth(1).unwrap_or('-');
    // pflag shows what is left of the cluster that the letter stands in
    let cluster =
        args.iter().find(|arg| arg.starts_with('-') && !arg.starts_with("--") && arg.contains(letter));
    let rest = cluster.and_then(|cluster| cluster.find(letter).map(|at| format!("-{}", &cluster[at..])));
    format!("unknown shorthand flag: '{letter}' in {}", rest.as_deref().unwrap_or(name))
}

fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    let flag = name.split([' ', '=', '[']).next()?;
    command.get_arguments().find(|arg| {
        arg.get_long().is_some_and(|long| flag == format!("--{long}"))
            || arg.get_short().is_some_and(|short| flag == format!("-{short}"))
    })
}

fn missing_value(command: &Command, name: &str, args: &[String]) -> String {
    let used_short = find(command, name).and_then(|arg| {
        let cluster = args.last().filter(|last| last.starts_with('-') && !last.starts_with("--"))?;
        arg.get_short().filter(|short| cluster.ends_with(*short)).map(|short| (short, cluster))
    });
    match used_short {
        Some((short, cluster)) => format!("flag needs an argument: '{short}' in {cluster}"),
        None => format!("flag needs an argument: {}", name.split(' ').next().unwrap_or(name)),
    }
}

/// `-m, --memory`.
fn flag_name(command: &Command, name: &str) -> String {
    let Some(arg) = find(command, name) else { return name.to_owned() };
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        _ => name.to_owned(),
    }
}
