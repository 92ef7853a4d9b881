//! A logging program (`binary://`): it reads the process's output from descriptors 3 and 4, and closes 5
//! when it is ready. `CONTAINER_ID` and `CONTAINER_NAMESPACE` are in its environment.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal};

use super::open::Owner;
use crate::reaper::Reaper;

/// How long it may take to get ready.
const READY: i64 = 30;
/// How long it may take to end after SIGTERM.
const TERM: Duration = Duration::from_secs(12);

/// A logging program at work.
pub struct Logger {
    pid: u32,
    ended: Arc<(Mutex<bool>, Condvar)>,
}

/// Starts one; returns the ends for the process's stdout and stderr.
pub(super) fn start(
    path: &Path,
    args: &[String],
    strict: bool,
    owner: &Owner<'_>,
    reaper: &Reaper,
) -> io::Result<(Logger, OwnedFd, OwnedFd)> {
    let (out_read, out_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (err_read, err_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (ready_read, ready_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new(path);
    command.args(args).env("CONTAINER_ID", owner.id).env("CONTAINER_NAMESPACE", owner.namespace);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    wharf_sys::inherit::inherit(&mut command, vec![(out_read, 3), (err_read, 4), (ready_write, 5)])?;
    let ended = Arc::new((Mutex::new(false), Condvar::new()));
    let there = Arc::clone(&ended);
    let pid = reaper.spawn(
        &mut command,
        Box::new(move |_| {
            *there.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            there.1.notify_all();
        }),
    )?;
    // our copies, so that the program's closing is the last
    drop(command);
    let logger = Logger { pid, ended };
    let timeout = Timespec { tv_sec: READY, tv_nsec: 0 };
    let said = match rustix::event::poll(&mut [PollFd::new(&ready_read, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, "the logging program did not get ready")),
        Ok(_) => std::fs::File::from(ready_read).read(&mut [0]),
        Err(e) => Err(e.into()),
    };
    match said {
        Ok(0) if strict => {
            logger.stop();
            Err(io::Error::other("the logging program ended its ready pipe without a byte"))
        }
        Ok(_) => Ok((logger, out_write, err_write)),
        Err(e) => {
            logger.stop();
            Err(e)
        }
    }
}

impl Logger {
    /// Asks it to end, and kills it if it does not. Blocks until it has ended, 12 s at most; close its
    /// pipes first, so that it finds their end.
    pub fn stop(self) {
        let signal = |signal| {
            // under the lock of its end, so that the pid is still its own
            let ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let (false, Some(pid)) = (*ended, Pid::from_raw(self.pid as i32)) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        };
        signal(Signal::TERM);
        let ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ended.1.wait_timeout_while(ended, TERM, |ended| !*ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        signal(Signal::KILL);
    }
}
