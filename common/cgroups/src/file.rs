//! Reading and writing control files below a directory descriptor, bounded.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, read, write};

/// No control file that is read here comes near this size, even with hundreds of devices or CPUs.
const MAX: usize = 1 << 20;

pub(crate) fn open(dir: BorrowedFd<'_>, file: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(dir, file, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// One write call, as control files want it: a short write would be taken for the whole value.
pub(crate) fn put(file: impl AsFd, value: &[u8]) -> Result<(), Errno> {
    loop {
        match write(&file, value) {
            Ok(n) if n == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::IO),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

pub(crate) fn write_at(dir: BorrowedFd<'_>, file: &str, value: &str) -> Result<(), Errno> {
    let fd = open(dir, file, OFlags::WRONLY | OFlags::TRUNC)?;
    put(fd, value.as_bytes())
}

pub(crate) fn read_fd(fd: impl AsFd) -> Result<String, Errno> {
    let mut out = Vec::with_capacity(4096);
    loop {
        let have = out.len();
        if have >= MAX {
            return Err(Errno::FBIG);
        }
        if out.capacity() - have < 1024 {
            out.reserve(have.max(4096));
        }
        match read(&fd, rustix::buffer::spare_capacity(&mut out)) {
            Ok(0) => return Ok(String::from_utf8_lossy(&out).into_owned()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

pub(crate) fn read_at(dir: BorrowedFd<'_>, file: &str) -> Result<String, Errno> {
    read_fd(open(dir, file, OFlags::RDONLY)?)
}

pub(crate) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" | "-1" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

pub(crate) fn head(text: &str) -> String {
    text.chars().take(80).collect()
}
