//! Stopping and continuing every process of a cgroup at once.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::cgroup::{Cgroup, Dir};
use crate::error::CgroupError;
use crate::file::{open, read_fd};
use crate::hierarchy::Mode;

const DEADLINE: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Stops every process; returns when all of them stand. On failure they run again.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        let dir = self.freezer("freeze")?;
        let done = match self.mode {
            Mode::Unified => freeze_v2(dir),
            Mode::Legacy | Mode::Hybrid => freeze_v1(dir),
        };
        if done.is_err() {
            let _ = self.thaw();
        }
        done
    }

    /// Lets every process run again.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        let dir = self.freezer("thaw")?;
        match self.mode {
            Mode::Unified => dir.write("cgroup.freeze", "0"),
            Mode::Legacy | Mode::Hybrid => dir.write("freezer.state", "THAWED"),
        }
    }

    /// Whether the processes are stopped, or being stopped, by [`Cgroup::freeze`] on this very cgroup or one above.
    pub fn frozen(&self) -> Result<bool, CgroupError> {
        let dir = self.freezer("read the freezer")?;
        match self.mode {
            Mode::Unified => Ok(dir.read("cgroup.events")?.lines().any(|l| l == "frozen 1")),
            Mode::Legacy | Mode::Hybrid => Ok(dir.read("freezer.state")?.trim() != "THAWED"),
        }
    }

    fn freezer(&self, act: &'static str) -> Result<&Dir, CgroupError> {
        self.dir("freezer").ok_or(CgroupError::NoCgroup { act, controller: "freezer" })
    }
}

fn freeze_v1(dir: &Dir) -> Result<(), CgroupError> {
    let deadline = Instant::now() + DEADLINE;
    let mut pause = Duration::from_micros(20);
    while Instant::now() < deadline {
        // written again each round: a process forked meanwhile keeps the state at FREEZING
        dir.write("freezer.state", "FROZEN")?;
        if dir.read("freezer.state")?.trim() == "FROZEN" {
            return Ok(());
        }
        // v1 has no notification of the state
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Err(CgroupError::Timeout { act: "freeze", path: dir.path.clone(), seconds: DEADLINE.as_secs() })
}

fn freeze_v2(dir: &Dir) -> Result<(), CgroupError> {
    let file = dir.path.join("cgroup.events");
    let events = open(dir.fd.as_fd(), "cgroup.events", OFlags::RDONLY)
        .map_err(|e| CgroupError::io("open", &file, e))?;
    dir.write("cgroup.freeze", "1")?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        rustix::fs::seek(&events, rustix::fs::SeekFrom::Start(0))
            .map_err(|e| CgroupError::io("rewind", &file, e))?;
        let text = read_fd(&events).map_err(|e| CgroupError::io("read", &file, e))?;
        if text.lines().any(|l| l == "frozen 1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CgroupError::Timeout {
                act: "freeze",
                path: dir.path.clone(),
                seconds: DEADLINE.as_secs(),
            });
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(CgroupError::io("poll", &file, e)),
        }
    }
}
