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

/// A descriptor that becomes readable (POLLIN) when the cgroup ran out of memory or was removed.
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
    /// The cgroup is gone: nothing will come any more.
    Gone,
    /// Nothing of interest.
    Nothing,
}

impl Cgroup {
    /// Watches for out-of-memory kills: v1 an eventfd on `memory.oom_control`, v2 inotify on `memory.events`.
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
            inotify::add_watch(&fd, &file, inotify::WatchFlags::MODIFY | inotify::WatchFlags::DELETE_SELF)
                .map_err(|e| CgroupError::io("watch", &file, e))?;
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
    /// Empties the descriptor and says what it meant. Never blocks.
    pub fn take(&mut self) -> Result<OomEvent, CgroupError> {
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
                Ok(if more || (woken && !self.v2) { OomEvent::Oom } else { OomEvent::Nothing })
            }
            None => Ok(OomEvent::Gone),
        }
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
