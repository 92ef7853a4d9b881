//! `start`, `kill`, `delete`, `pause` and `resume`.

use super::args::{DeleteArgs, KillArgs};
use super::{Failure, Outcome};
use crate::container::status::Container;
use crate::container::{delete as deletion, kill as killing, pause as freezing, start as starting};
use crate::signals;
use crate::state::StateRoot;

pub fn start(root: &StateRoot, id: &str) -> Outcome {
    starting::start(&Container::load(root, id)?)?;
    Ok(0)
}

pub fn kill(root: &StateRoot, args: KillArgs) -> Outcome {
    let container = Container::load(root, &args.id)?;
    let signal = signals::parse(&args.signal)
        .ok_or_else(|| Failure::new(format!("unknown signal {:?}", args.signal)))?;
    killing::kill(&container, signal, args.all)?;
    Ok(0)
}

pub fn delete(root: &StateRoot, args: DeleteArgs) -> Outcome {
    deletion::delete(root, &args.id, args.force)?;
    Ok(0)
}

pub fn pause(root: &StateRoot, id: &str) -> Outcome {
    freezing::pause(&Container::load(root, id)?)?;
    Ok(0)
}

pub fn resume(root: &StateRoot, id: &str) -> Outcome {
    freezing::resume(&Container::load(root, id)?)?;
    Ok(0)
}
