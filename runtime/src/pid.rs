//! Identifying a process for certain: its number together with its start time.

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::os::fd::OwnedFd;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks after boot.
    pub start: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Self> {
        let (_, start) = stat(pid)?;
        Some(Self { pid, start })
    }

    /// Whether it still runs: a zombie does not.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start && !matches!(state, 'Z' | 'X' | 'x'))
    }

    /// A descriptor of it; None if it is gone. Checked after opening, so that it is this process and no other.
    pub fn open(self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        self.is_alive().then_some(fd)
    }
}

fn stat(pid: i32) -> Option<(char, u64)> {
    // one read: the kernel gives the whole line, which is shorter than this
    let mut text = [0u8; 2048];
    let n = std::fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut f| f.read(&mut text)).ok()?;
    // the name may be no UTF-8; the fields that count are digits
    parse(&String::from_utf8_lossy(text.get(..n)?))
}

/// State and start time. The second field, the name in parentheses, may hold anything, parentheses included.
fn parse(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 0 0";
        assert_eq!(parse(stat), Some(('S', 123_456)));
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn this_process_is_alive_and_another_start_is_not_it() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive() && me.open().is_some());
        assert!(!ProcessId { start: me.start + 1, ..me }.is_alive());
    }
}
