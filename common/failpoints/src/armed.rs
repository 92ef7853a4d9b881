//! The points of a build that has them.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use crate::{Point, SettingError, VARIABLE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Error,
    Pause,
}

#[derive(Debug)]
struct Trap {
    action: Action,
    /// Passages before the one that counts.
    left: AtomicU64,
}

type Traps = BTreeMap<Point, Trap>;

static TRAPS: OnceLock<Traps> = OnceLock::new();

pub(crate) fn arm() -> Result<(), SettingError> {
    let setting = std::env::var(VARIABLE).unwrap_or_default();
    let traps = parse(&setting)?;
    // a second call finds what the first has armed
    let _ = TRAPS.set(traps);
    Ok(())
}

fn parse(setting: &str) -> Result<Traps, SettingError> {
    let mut traps = Traps::new();
    for entry in setting.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        let wrong = |problem| SettingError { entry: entry.into(), problem };
        let (name, what) = entry.split_once('=').ok_or_else(|| wrong("expected point=action"))?;
        let point = Point::named(name).ok_or_else(|| wrong("there is no such point"))?;
        let (action, count) = what.split_once('@').unwrap_or((what, "1"));
        let action = match action {
            "kill" => Action::Kill,
            "error" => Action::Error,
            "pause" => Action::Pause,
            _ => return Err(wrong("the action is none of kill, error, pause")),
        };
        let count = count.parse().ok().filter(|count| *count > 0);
        let count: u64 = count.ok_or_else(|| wrong("the number after @ must be 1 or more"))?;
        traps.insert(point, Trap { action, left: AtomicU64::new(count) });
    }
    Ok(traps)
}

pub(crate) fn pass(point: Point) -> io::Result<()> {
    let Some(trap) = TRAPS.get().and_then(|traps| traps.get(&point)) else { return Ok(()) };
    let before = trap.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
    if before != Ok(1) {
        return Ok(());
    }
    let name = point.name();
    // one write: a program that is about to die flushes nothing
    let _ = io::stderr().write_all(format!("failpoint {name}: {:?}\n", trap.action).as_bytes());
    match trap.action {
        Action::Error => Err(io::Error::other(format!("failpoint {name}"))),
        Action::Kill => {
            // cannot fail for the program itself; should it, the thread at least gets no further
            let _ = kill_process(getpid(), Signal::KILL);
            hold()
        }
        Action::Pause => hold(),
    }
}

fn hold() -> ! {
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_arm_what_they_name() {
        let traps = parse("content.write=kill; metadata.commit=error@3;").expect("setting");
        assert_eq!(traps.len(), 2);
        let trap = &traps[&Point::MetadataCommit];
        assert_eq!((trap.action, trap.left.load(Ordering::Relaxed)), (Action::Error, 3));
        assert!(parse("").expect("nothing").is_empty());
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        for setting in ["content.write", "nowhere=kill", "content.write=sing", "content.write=kill@0"] {
            let error = parse(setting).expect_err(setting).to_string();
            assert!(error.contains(setting), "{error}");
        }
    }

    #[test]
    fn error_strikes_once_at_its_passage() {
        TRAPS.set(parse("content.commit.flushed=error@2").expect("setting")).expect("only here");
        let passages: Vec<_> = (0..4).map(|_| pass(Point::ContentCommitFlushed).is_ok()).collect();
        assert_eq!(passages, [true, false, true, true]);
        assert!(pass(Point::ContentWrite).is_ok(), "not armed");
    }
}
