//! Where output is copied to when it is not the Wharf log: FIFOs, files, the pipe of a logging program.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::poll::{Poll, Token, Watched};

/// One destination. What it cannot take at once is held, and its source is not read meanwhile.
#[derive(Debug)]
pub(super) enum Dest {
    /// A FIFO or pipe.
    Pipe { fd: Watched, pending: Vec<u8> },
    /// A regular file or device: writing never has to wait.
    File(File),
}

/// A destination before it is watched.
#[derive(Debug)]
pub(super) enum DestParts {
    Pipe(OwnedFd),
    File(File),
}

impl Dest {
    pub(super) fn new(parts: DestParts, poll: &Poll, token: Token) -> Dest {
        match parts {
            DestParts::Pipe(fd) => Dest::Pipe { fd: Watched::new(poll, token, fd), pending: Vec::new() },
            DestParts::File(file) => Dest::File(file),
        }
    }

    /// Takes bytes; an error says that none will ever be taken.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        match self {
            Dest::File(file) => {
                if let Err(e) = file.write_all(bytes) {
                    // a full disk may have room again later: only these bytes are lost
                    crate::log::error(format_args!("output file: {e}"));
                }
                Ok(())
            }
            Dest::Pipe { pending, .. } => {
                pending.extend_from_slice(bytes);
                self.flush()
            }
        }
    }

    /// Writes what is held as far as it goes.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        let Dest::Pipe { fd, pending } = self else { return Ok(()) };
        let mut written = 0;
        while written < pending.len() {
            match rustix::io::write(&*fd, &pending[written..]) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(e) => {
                    pending.clear();
                    return Err(e);
                }
            }
        }
        pending.drain(..written);
        fd.want((!pending.is_empty()).then_some(EventFlags::OUT));
        Ok(())
    }

    /// Whether the reader, too, has taken everything. Of a file there is none.
    pub(super) fn is_taken(&self) -> bool {
        match self {
            Dest::Pipe { fd, pending } => {
                pending.is_empty() && rustix::io::ioctl_fionread(fd).is_ok_and(|unread| unread == 0)
            }
            Dest::File(_) => true,
        }
    }

    /// Whether everything was written.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Dest::Pipe { pending, .. } => pending.is_empty(),
            Dest::File(_) => true,
        }
    }
}
