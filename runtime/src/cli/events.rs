//! `events`: statistics and out-of-memory events in runc's JSON, one object a line.

use super::args::EventsArgs;
use super::{Failure, Outcome};
use crate::container::status::{Container, Status};
use crate::state::StateRoot;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};
use wharf_cgroups::OomEvent;

pub fn events(root: &StateRoot, args: EventsArgs) -> Outcome {
    let container = Container::load(root, &args.id)?;
    let interval = duration(&args.interval).ok_or_else(|| {
        Failure::new(format!(
            "--interval: {:?} is no duration; whole seconds, or numbers with ns, us, ms, s, m or h are allowed",
            args.interval
        ))
    })?;
    if interval.is_zero() {
        return Err(Failure::new("duration interval must be greater than 0"));
    }
    if container.status() == Status::Stopped {
        return Err(Failure::new(format!("container with id {} is not running", args.id)));
    }
    if args.stats {
        show(&stats(&container)?)?;
        return Ok(0);
    }
    follow(&container, interval)
}

/// Until the container has ended: statistics each interval, and each out-of-memory event as it comes.
fn follow(container: &Container, interval: Duration) -> Outcome {
    let mut oom = container.cgroup()?.oom_watch()?;
    // gone in between: nothing will come
    let Some(init) = container.record.init.and_then(|p| p.open()) else { return Ok(0) };
    let event = serde_json::to_string(&Event { kind: "oom", id: &container.record.id, data: None })?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|e| Failure::new(format!("--interval: {e}")))?;
        let mut fds = [PollFd::new(&oom, PollFlags::IN), PollFd::new(&init, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Failure::new(format!("waiting for events: {e}"))),
        }
        let (woken, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if woken || ended {
            match oom.take()? {
                OomEvent::Oom => show(&event)?,
                OomEvent::Gone => return Ok(0),
                OomEvent::Nothing if ended => return Ok(0),
                OomEvent::Nothing => {}
            }
        }
        if Instant::now() >= next {
            next += interval;
            match stats(container) {
                Ok(event) => show(&event)?,
                // as runc: one that cannot be read is reported, and the next one tried
                Err(e) => crate::log::error(&e.message),
            }
        }
    }
}

/// A line of output; the fields come in runc's order, which readers of text rely on.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

/// What the cgroup tells, and the two that are empty where the container has no class of service of its own, and where
/// the runtime made no interfaces (it never does), as with runc.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    cgroup: wharf_cgroups::stats::runc::Data<'a>,
    intel_rdt: Value,
    network_interfaces: Option<()>,
}

/// The line of the container's statistics now.
fn stats(container: &Container) -> Result<String, Failure> {
    let cgroup = container.cgroup()?;
    let (stats, cpuset) = (cgroup.stats()?, cgroup.cpuset()?);
    let data = Data { cgroup: stats.to_runc(cpuset), intel_rdt: json!({}), network_interfaces: None };
    Ok(serde_json::to_string(&Event { kind: "stats", id: &container.record.id, data: Some(data) })?)
}

/// A reader that sees lines as they come, also through a pipe.
fn show(event: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{event}")
        .and_then(|()| out.flush())
        .map_err(|e| Failure::new(format!("writing an event: {e}")))
}

/// Go's form of a duration (`1m30s`, `500ms`, `0.5s`), or whole seconds.
fn duration(text: &str) -> Option<Duration> {
    const MAX: f64 = 1e9;
    if let Ok(secs) = text.parse::<u32>() {
        return Some(Duration::from_secs(secs.into()));
    }
    let mut rest = text;
    let mut secs = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        secs += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    (!text.is_empty() && secs < MAX).then(|| Duration::from_secs_f64(secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_gos_durations() {
        for (text, millis) in [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("0.5s", 500), ("2", 2000)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "5x", "-1s", "1e99h", "99999999h", "1.2.3s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
