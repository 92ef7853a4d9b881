//! The one place that reaps: exits of runtime commands, of container processes and of orphans.
//!
//! A container process is not our child until the runtime that made it has exited, and its pid is known only
//! from a file after that. An exit in between is kept ([`Reaper::expecting`]) until the pid is known. A pid
//! becomes a process through [`Reaper::adopt`], which ties it to a pidfd while nothing can be reaped, so
//! a reused number is never taken for the former owner.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions, WaitStatus};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its pid.
    pub pid: u32,
    /// Its exit code, or 128 and the signal.
    pub status: u32,
    /// When it was reaped.
    pub at: SystemTime,
}

/// Unwatched exits kept at most: a container that floods us with orphans may not fill the memory.
const MAX_EARLY: usize = 65_536;

type OnExit = Box<dyn FnOnce(Exit) + Send>;

#[derive(Default)]
struct Table {
    watched: HashMap<u32, OnExit>,
    /// Exits nobody watched, while somebody is expecting one.
    early: Vec<Exit>,
    /// How many are expecting.
    expecting: usize,
    /// Raised at each spawn: there may be children again.
    spawned: u64,
}

/// See the module.
#[derive(Default)]
pub struct Reaper {
    table: Mutex<Table>,
    children: Condvar,
}

/// A child that was adopted.
#[derive(Debug)]
pub enum Adopted {
    /// It lives, or its exit is still to be reaped: the callback will be called.
    Watched(OwnedFd),
    /// It has ended already; the callback was not called.
    Ended(Exit),
}

impl Reaper {
    /// Reaps forever; call it on a thread of its own.
    pub fn run(&self) {
        loop {
            let seen = self.lock().spawned;
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            match rustix::process::waitid(WaitId::All, options) {
                Ok(_) => self.reap(),
                Err(Errno::INTR) => {}
                Err(_) => {
                    // no children: none of theirs can become ours either, until the next spawn
                    let table = self.lock();
                    let none = self.children.wait_while(table, |t| t.spawned == seen);
                    drop(none.unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
    }

    fn reap(&self) {
        let mut ended = Vec::new();
        let mut table = self.lock();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let exit = Exit { pid: raw(pid), status: code(status), at: SystemTime::now() };
            match table.watched.remove(&exit.pid) {
                Some(on_exit) => ended.push((on_exit, exit)),
                None if table.expecting > 0 && table.early.len() < MAX_EARLY => table.early.push(exit),
                None => {}
            }
        }
        drop(table);
        for (on_exit, exit) in ended {
            on_exit(exit);
        }
    }

    /// Starts a command and calls `on_exit`, on the reaping thread, when it ends. Returns its pid.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&self, command: &mut Command, on_exit: OnExit) -> io::Result<u32> {
        // under the lock: a failed exec makes std wait for the child, which nobody may reap before
        let mut table = self.lock();
        let pid = command.spawn()?.id();
        table.watched.insert(pid, on_exit);
        table.spawned += 1;
        self.children.notify_all();
        Ok(pid)
    }

    /// Starts a command and waits for its end; with a timeout it is killed when that has passed.
    ///
    /// # Errors
    /// If it cannot be started, or timed out.
    pub fn run_command(&self, command: &mut Command, timeout: Duration) -> io::Result<Exit> {
        let slot = Arc::new((Mutex::new(None), Condvar::new()));
        let there = Arc::clone(&slot);
        let pid = self.spawn(
            command,
            Box::new(move |exit| {
                *there.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit);
                there.1.notify_all();
            }),
        )?;
        let wait = |timeout| {
            let guard = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (guard, _) = slot
                .1
                .wait_timeout_while(guard, timeout, |exit| exit.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            *guard
        };
        if let Some(exit) = wait(timeout) {
            return Ok(exit);
        }
        // it is not reaped, so the pid is still its own
        if let Some(pid) = Pid::from_raw(pid as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        wait(Duration::from_secs(5));
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no end after {} s", timeout.as_secs())))
    }

    /// From now until the guard is dropped, exits of pids nobody watches are kept.
    pub fn expecting(self: &Arc<Self>) -> Expecting {
        self.lock().expecting += 1;
        Expecting(Arc::clone(self))
    }

    /// Takes a pid, which some command of ours made since `expecting` began, for a process of ours.
    ///
    /// # Errors
    /// If there is no such child and none ended under that pid.
    pub fn adopt(&self, expecting: &Expecting, pid: u32, on_exit: OnExit) -> io::Result<Adopted> {
        debug_assert!(std::ptr::eq(self, &*expecting.0));
        let mut table = self.lock();
        if let Some(fd) = open_child(pid) {
            table.watched.insert(pid, on_exit);
            return Ok(Adopted::Watched(fd));
        }
        match table.early.iter().rposition(|exit| exit.pid == pid) {
            Some(at) => Ok(Adopted::Ended(table.early.remove(at))),
            None => Err(io::Error::from_raw_os_error(Errno::CHILD.raw_os_error())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Reaper::expecting`].
pub struct Expecting(Arc<Reaper>);

impl Drop for Expecting {
    fn drop(&mut self) {
        let mut table = self.0.lock();
        table.expecting -= 1;
        if table.expecting == 0 {
            table.early.clear();
        }
    }
}

/// A pidfd of `pid` if that is a child of ours that was not reaped.
fn open_child(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&fd)), options).ok()?;
    Some(fd)
}

fn raw(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get() as u32
}

fn code(status: WaitStatus) -> u32 {
    let code = match status.terminating_signal() {
        Some(signal) => 128 + signal,
        None => status.exit_status().unwrap_or(255),
    };
    code as u32
}
