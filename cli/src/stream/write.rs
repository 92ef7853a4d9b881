//! Unbuffered writes to this process's own outputs, from any thread.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

pub(crate) fn stdout(data: &[u8]) -> io::Result<()> {
    all(rustix::stdio::stdout(), data)
}

pub(crate) fn stderr(data: &[u8]) -> io::Result<()> {
    all(rustix::stdio::stderr(), data)
}

/// Writes all of `data`, waiting where the descriptor does not block (as one shared with a parent may not).
pub(super) fn all(fd: BorrowedFd<'_>, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match rustix::io::write(fd, data) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => data = &data[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(fd, PollFlags::OUT)?,
            Err(bad) => return Err(bad.into()),
        }
    }
    Ok(())
}

/// Reads once, waiting where the descriptor does not block. 0 is the end.
pub(super) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            Ok(read) => return Ok(read),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(fd, PollFlags::IN)?,
            Err(bad) => return Err(bad.into()),
        }
    }
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(bad) => Err(bad.into()),
    }
}
