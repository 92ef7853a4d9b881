//! `events`: statistics in runc's JSON.

use super::args::EventsArgs;
use super::{Failure, Outcome};
use crate::container::status::{Container, Status};
use crate::state::StateRoot;

pub fn events(root: &StateRoot, args: EventsArgs) -> Outcome {
    let container = Container::load(root, &args.id)?;
    if container.status() == Status::Stopped {
        return Err(Failure::new("container not running"));
    }
    if !args.stats {
        return Err(Failure::new(format!(
            "following events every {} is not supported by this version of runw; use --stats",
            args.interval
        )));
    }
    let stats = container.cgroup()?.stats()?;
    let event = serde_json::json!({ "type": "stats", "id": args.id, "data": stats.to_runc() });
    println!("{event}");
    Ok(0)
}
