//! Help texts in docker's shape.

use clap::{Arg, ArgAction, Command};

use crate::commands::{COMMON, GROUPS, VERBS};
use crate::verb::{Found, Group};

/// `wharf run --help`.
pub(crate) fn verb(found: &Found, command: &Command) -> String {
    let mut out = format!("Usage:  {} {}\n\n{}\n", found.path, found.verb.usage, found.verb.about);
    let paths = paths_of(found);
    if paths.len() > 1 {
        out.push_str(&format!("\nAliases:\n  {}\n", paths.join(", ")));
    }
    let options = options(command);
    if !options.is_empty() {
        out.push_str("\nOptions:\n");
        out.push_str(&options);
    }
    out
}

/// Every way to spell a verb, the grouped ones first.
fn paths_of(found: &Found) -> Vec<String> {
    // a verb has the same words wherever it stands, and no two verbs share them
    let same = |verb: &crate::verb::Verb| verb.about == found.verb.about;
    let mut paths = Vec::new();
    for group in GROUPS {
        for verb in group.verbs.iter().filter(|verb| same(verb)) {
            paths.extend(verb.names.iter().map(|name| format!("wharf {} {name}", group.name)));
        }
    }
    for verb in VERBS.iter().filter(|verb| same(verb)) {
        paths.extend(verb.names.iter().map(|name| format!("wharf {name}")));
    }
    paths
}

/// `wharf --help`.
pub(crate) fn root(globals: &Command) -> String {
    let mut out =
        "Usage:  wharf [OPTIONS] COMMAND\n\nA container engine that its workloads outlive\n".to_owned();
    let listed = |out: &mut String, title: &str, entries: &mut dyn Iterator<Item = (&str, &str)>| {
        out.push_str(&format!("\n{title}:\n"));
        for (name, about) in entries {
            out.push_str(&format!("  {name:<11} {about}\n"));
        }
    };
    listed(
        &mut out,
        "Common Commands",
        &mut COMMON.iter().filter_map(|name| {
            VERBS.iter().find(|verb| verb.name() == *name).map(|verb| (verb.name(), verb.about))
        }),
    );
    listed(&mut out, "Management Commands", &mut GROUPS.iter().map(|group| (group.name, group.about)));
    let mut others: Vec<(&str, &str)> = VERBS
        .iter()
        .filter(|verb| !COMMON.contains(&verb.name()))
        .map(|verb| (verb.name(), verb.about))
        .collect();
    others.sort_unstable();
    listed(&mut out, "Commands", &mut others.into_iter());
    out.push_str("\nGlobal Options:\n");
    out.push_str(&options(globals));
    out.push_str("\nRun 'wharf COMMAND --help' for more information on a command.\n");
    out
}

/// `wharf container --help`.
pub(crate) fn group(group: &Group) -> String {
    let mut out = format!("Usage:  wharf {} COMMAND\n\n{}\n\nCommands:\n", group.name, group.about);
    for verb in group.verbs {
        out.push_str(&format!("  {:<11} {}\n", verb.name(), verb.about));
    }
    out.push_str(&format!(
        "\nRun 'wharf {} COMMAND --help' for more information on a command.\n",
        group.name
    ));
    out
}

/// The options of a command, a paragraph each, sorted by name.
fn options(command: &Command) -> String {
    let mut args: Vec<&Arg> =
        command.get_arguments().filter(|arg| arg.get_long().is_some() && !arg.is_hide_set()).collect();
    args.sort_by_key(|arg| arg.get_long());
    let left = |arg: &Arg| {
        let short = arg.get_short().map_or("    ".to_owned(), |short| format!("-{short}, "));
        let long = arg.get_long().unwrap_or_default();
        let switch = arg.is_require_equals_set() || matches!(arg.get_action(), ArgAction::Help);
        let kind = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
        match kind.filter(|_| !switch) {
            Some(kind) => format!("  {short}--{long} {kind}"),
            None => format!("  {short}--{long}"),
        }
    };
    let column = args.iter().map(|arg| left(arg).len()).max().unwrap_or(0) + 3;
    let width = terminal_width().saturating_sub(1).max(column + 24);
    let mut out = String::new();
    for arg in args {
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        out.push_str(&format!("{:<column$}", left(arg)));
        for (i, line) in help.lines().flat_map(|line| wrap(line, width - column)).enumerate() {
            if i > 0 {
                out.push_str(&" ".repeat(column));
            }
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.len() - 1;
        let current = &mut lines[last];
        if !current.is_empty() && current.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
    }
    lines
}

fn terminal_width() -> usize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => 80,
    }
}
