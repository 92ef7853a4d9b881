//! User namespaces that no process is in, for mounts whose owners are shifted. Such a namespace is made by a process
//! with one thread: this program again, for a moment.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use wharf_mounts::Mapping;
use wharf_sys::namespace::{Namespaces, unshare};

use crate::reaper::Reaper;

/// The word that makes the program [`hold`] one.
pub const HOLD: &str = "userns";
/// How long that may take to begin, in seconds.
const READY: i64 = 30;

/// A user namespace with the mapping.
///
/// # Errors
/// If the kernel refuses it or the mapping.
pub fn make(mapping: &Mapping, reaper: &Reaper) -> io::Result<OwnedFd> {
    let (held, hold) = pipe_with(PipeFlags::CLOEXEC)?;
    let (ready, says) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(HOLD).stdin(Stdio::from(held)).stdout(Stdio::from(says)).stderr(Stdio::null());
    let pid = reaper.spawn(&mut command, Box::new(|_| ()))?;
    // our copies of its ends
    drop(command);
    let timeout = Timespec { tv_sec: READY, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(&ready, PollFlags::IN)], Some(&timeout))?;
    rustix::io::ioctl_fionbio(&ready, true)?;
    if rustix::io::read(&ready, &mut [0; 1])? == 0 {
        return Err(io::Error::other("no user namespace could be made"));
    }
    // it lives until `hold` is dropped, so the pid is its own
    let write = |file: &str, text: &str| {
        let path = format!("/proc/{pid}/{file}");
        File::options().write(true).open(path)?.write_all(text.as_bytes())
    };
    write("gid_map", &mapping.groups)?;
    write("uid_map", &mapping.users)?;
    let path = format!("/proc/{pid}/ns/user");
    let users = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    drop(hold);
    Ok(users)
}

/// Moves this process, which must have one thread, to a user namespace of its own, says so on stdout, and stays until
/// stdin ends.
///
/// # Errors
/// If that is not allowed.
pub fn hold() -> io::Result<()> {
    unshare(Namespaces::USER)?;
    let mut said = io::stdout();
    said.write_all(b"1")?;
    said.flush()?;
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}
