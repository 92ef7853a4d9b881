//! `start`, `kill`, `delete`, `pause` and `resume`.

use super::args::{DeleteArgs, KillArgs};
use super::{Failure, Outcome};
use crate::container::status::{Container, Status};
use crate::container::{delete as deletion, kill as killing, pause as freezing, start as starting};
use crate::notify;
use crate::signals;
use crate::state::StateRoot;

pub fn start(root: &StateRoot, id: &str) -> Outcome {
    let container = Container::load(root, id)?;
    let dir = notify::dir(container.dir.path());
    // there if the container was created with a notification socket, too
    let host = notify::host().filter(|_| dir.is_dir() && container.status() == Status::Created);
    let notified = match host {
        Some(host) => {
            let failed =
                |e| Failure::new(format!("making the notification socket in {}: {e}", dir.display()));
            Some((notify::listen(&dir).map_err(failed)?, host))
        }
        None => None,
    };
    let process = container.record.init.and_then(|p| p.open());
    starting::start(&container)?;
    if let (Some((socket, host)), Some(process)) = (notified, process) {
        let pid = container.record.init.map_or(0, |p| p.pid);
        super::create::warn(notify::forward(&socket, &host, &process, pid));
    }
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
