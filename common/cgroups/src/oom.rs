//! Being told that the kernel killed a process of the cgroup for want of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use rustix::fs::inotify;
use rustix::io::{Errno, read};

use crate::cgroup::Cgroup;
use crate::error::CgroupError;
use crate::file::{open, read_at};
use crate::hierarchy::Mode;

/// A descriptor that becomes readable (POLLIN) when the cgroup ran out of memory, and at its end: version 1 when it
/// is removed; version 2 when its last process has gone, since the kernel tells no inotify watch of the removal.
#[derive(Debug)]
pub struct OomWatch {
    notify: OwnedFd,
    dir: OwnedFd,
    path: PathBuf,
    v2: bool,
    seen: u64,
}

/// What [`OomWatch::take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// The memory limit was hit and the OOM killer called, since the last look.
    Oom,
    /// The cgroup is gone, or on version 2 its last process: nothing will come any more.
    Gone,
    /// Nothing of interest.
    Nothing,
}

impl Cgroup {
    /// Watches for out-of-memory kills: v1 an eventfd on `memory.oom_control`, v2 inotify on `memory.events` and
    /// `cgroup.events`.
    pub fn oom_watch(&self) -> Result<OomWatch, CgroupError> {
        let memory =
            self.dir("memory").ok_or(CgroupError::NoCgroup { act: "watch for OOM", controller: "memory" })?;
        let dir = memory.fd.try_clone().map_err(|source| CgroupError::Io {
            act: "duplicate descriptor of",
            path: memory.path.clone(),
            source,
        })?;
        let v2 = self.mode == Mode::Unified;
        let notify = if v2 {
            let file = memory.path.join("memory.events");
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
                .map_err(|e| CgroupError::io("create inotify for", &file, e))?;
            for name in ["memory.events", "cgroup.events"] {
                let file = memory.path.join(name);
                inotify::add_watch(&fd, &file, inotify::WatchFlags::MODIFY)
                    .map_err(|e| CgroupError::io("watch", &file, e))?;
            }
            fd
        } else {
            let file = memory.path.join("memory.oom_control");
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|e| CgroupError::io("create eventfd for", &file, e))?;
            let control = open(memory.fd.as_fd(), "memory.oom_control", OFlags::RDONLY)
                .map_err(|e| CgroupError::io("open", &file, e))?;
            memory.write("cgroup.event_control", &format!("{} {}", fd.as_raw_fd(), control.as_raw_fd()))?;
            fd
        };
        let mut watch = OomWatch { notify, dir, path: memory.path.clone(), v2, seen: 0 };
        watch.seen = watch.kills().unwrap_or(0);
        Ok(watch)
    }
}

impl OomWatch {
    /// Empties the descriptor and says what it meant. Never blocks. After [`OomEvent::Oom`] it may be readable still.
    pub fn take(&mut self) -> Result<OomEvent, CgroupError> {
        // the kill of the last process brings two pieces of news: the second is left in the descriptor
        if self.v2
            && let Some(now) = self.kills().filter(|now| *now > self.seen)
        {
            self.seen = now;
            return Ok(OomEvent::Oom);
        }
        let mut buffer = [0u8; 4096];
        let mut woken = false;
        loop {
            match read(&self.notify, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(_) => woken = true,
                Err(Errno::INTR) => {}
                Err(e) => return Err(CgroupError::io("read OOM events of", &self.path, e)),
            }
        }
        match self.kills() {
            // v1 signals the eventfd before it kills and counts, so the wake-up itself is the news
            Some(now) => {
                let more = now > self.seen;
                self.seen = now;
                if more || (woken && !self.v2) {
                    return Ok(OomEvent::Oom);
                }
                Ok(if woken && self.v2 && self.is_empty() { OomEvent::Gone } else { OomEvent::Nothing })
            }
            None => Ok(OomEvent::Gone),
        }
    }

    /// Whether no process is left, here or below.
    fn is_empty(&self) -> bool {
        read_at(self.dir.as_fd(), "cgroup.events").is_ok_and(|t| t.lines().any(|l| l == "populated 0"))
    }

    /// Processes killed so far, or none if the cgroup is gone.
    fn kills(&self) -> Option<u64> {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        let text = read_at(self.dir.as_fd(), file).ok()?;
        Some(text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0))
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}
