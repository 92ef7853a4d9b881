//! Verbs about containers.

mod attach;
mod attached;
mod create;
mod exec;
mod flags;
mod inspect;
mod kill;
mod list;
mod logs;
mod pause;
mod plan;
mod port;
mod prune;
mod rename;
mod restart;
mod rm;
mod row;
mod run;
mod start;
mod stop;
mod top;
mod wait;
mod waiting;

use std::future::Future;

use futures_util::StreamExt as _;
use wharf_docker::container::Inspect;

use crate::error::CliError;
use crate::session::println;
use crate::terminal;
use crate::transport::url::{Query, escape_path};
use crate::transport::{Client, RequestBody};
use crate::verb::{Group, Verb};

pub(crate) use inspect::element;

pub(super) const ATTACH: Verb = Verb::of::<attach::AttachOptions>(&["attach"]);
pub(super) const CREATE: Verb = Verb::of::<create::CreateOptions>(&["create"]);
pub(super) const EXEC: Verb = Verb::of::<exec::ExecOptions>(&["exec"]);
pub(super) const KILL: Verb = Verb::of::<kill::KillOptions>(&["kill"]);
pub(super) const LOGS: Verb = Verb::of::<logs::LogsOptions>(&["logs"]);
pub(super) const PAUSE: Verb = Verb::of::<pause::PauseOptions>(&["pause"]);
pub(super) const PORT: Verb = Verb::of::<port::PortOptions>(&["port"]);
pub(super) const PS: Verb = Verb::of::<list::ListOptions>(&["ps"]);
pub(super) const RENAME: Verb = Verb::of::<rename::RenameOptions>(&["rename"]);
pub(super) const RESTART: Verb = Verb::of::<restart::RestartOptions>(&["restart"]);
pub(super) const RM: Verb = Verb::of::<rm::RmOptions>(&["rm"]);
pub(super) const RUN: Verb = Verb::of::<run::RunOptions>(&["run"]);
pub(super) const START: Verb = Verb::of::<start::StartOptions>(&["start"]);
pub(super) const STOP: Verb = Verb::of::<stop::StopOptions>(&["stop"]);
pub(super) const TOP: Verb = Verb::of::<top::TopOptions>(&["top"]);
pub(super) const UNPAUSE: Verb = Verb::of::<pause::UnpauseOptions>(&["unpause"]);
pub(super) const WAIT: Verb = Verb::of::<wait::WaitOptions>(&["wait"]);

pub(super) const GROUP: Group = Group {
    name: "container",
    about: "Manage containers",
    verbs: &[
        ATTACH,
        CREATE,
        EXEC,
        Verb::of::<inspect::InspectOptions>(&["inspect"]),
        KILL,
        LOGS,
        Verb::of::<list::ListOptions>(&["ls", "list", "ps"]),
        PAUSE,
        PORT,
        Verb::of::<prune::PruneOptions>(&["prune"]),
        RENAME,
        RESTART,
        Verb::of::<rm::RmOptions>(&["rm", "remove"]),
        RUN,
        START,
        STOP,
        TOP,
        UNPAUSE,
        WAIT,
    ],
};

/// `POST /containers/NAME/VERB` without parameters.
async fn act(client: &Client, name: &str, verb: &str) -> Result<(), CliError> {
    act_with(client, name, verb, Query::new()).await
}

async fn act_with(client: &Client, name: &str, verb: &str, query: Query) -> Result<(), CliError> {
    let path = format!("/containers/{}/{verb}", escape_path(name));
    client.post(&path, query, RequestBody::Empty).await?.bytes().await?;
    Ok(())
}

async fn inspect(client: &Client, name: &str) -> Result<Inspect, CliError> {
    Ok(client.get(&format!("/containers/{}/json", escape_path(name)), Query::new()).await?.json().await?)
}

/// docker's refusal to join a terminal inside to an input that is none.
fn check_tty(attach_stdin: bool, tty: bool) -> Result<(), CliError> {
    if attach_stdin && tty && !terminal::stdin_is_terminal() {
        return Err(CliError::invalid("the input device is not a TTY"));
    }
    Ok(())
}

/// At most so many containers are acted on at a time.
const AT_ONCE: usize = 50;

/// Acts on all of `names` side by side, printing each name when it is done, in order.
async fn each<'a, F: Future<Output = Result<(), CliError>>>(
    names: &'a [String],
    act: impl Fn(&'a str) -> F,
) -> Result<(), CliError> {
    let mut results = futures_util::stream::iter(names)
        .map(|name| {
            let acting = act(name);
            async move { (name, acting.await) }
        })
        .buffered(AT_ONCE);
    let mut errors = Vec::new();
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(()) => println(name)?,
            Err(bad) => errors.push(bad),
        }
    }
    crate::error::all(errors)
}
