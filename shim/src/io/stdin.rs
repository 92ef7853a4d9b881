//! A process's standard input: what is fed to it, in order, as it takes it.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::poll::{Poll, Token, Watched};

/// Bytes held for a process that does not read; then its feeders are not read either.
const BOUND: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Stdin {
    state: State,
    pending: Vec<u8>,
    close_when_flushed: bool,
    terminal: bool,
}

#[derive(Debug)]
enum State {
    /// The process is not there yet.
    Unconnected,
    Open(Watched),
    Closed,
}

impl Stdin {
    pub(super) fn new(terminal: bool) -> Stdin {
        Stdin { state: State::Unconnected, pending: Vec::new(), close_when_flushed: false, terminal }
    }

    /// The process is there; without a descriptor it has no stdin.
    pub(super) fn connect(&mut self, fd: Option<OwnedFd>, poll: &Poll, token: Token) {
        self.state = fd.map_or(State::Closed, |fd| State::Open(Watched::new(poll, token, fd)));
        self.flush();
    }

    /// Whether more may be given. Bytes for a closed stdin are taken and dropped.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < BOUND
    }

    pub(super) fn give(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Closed) || self.close_when_flushed {
            return;
        }
        self.pending.extend_from_slice(bytes);
        self.flush();
    }

    /// Closes it after what was given. A terminal stays open: its master is its output too.
    pub(super) fn close_when_flushed(&mut self) {
        if !self.terminal {
            self.close_when_flushed = true;
            self.flush();
        }
    }

    /// Closes it now.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
        self.pending = Vec::new();
    }

    /// Writes as far as it goes; called when the descriptor is ready too.
    pub(super) fn flush(&mut self) {
        let State::Open(fd) = &mut self.state else { return };
        let mut written = 0;
        let mut gone = false;
        while written < self.pending.len() {
            match rustix::io::write(&*fd, &self.pending[written..]) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // the process closed its end
                Err(_) => {
                    gone = true;
                    break;
                }
            }
        }
        self.pending.drain(..written);
        if gone || self.pending.is_empty() && self.close_when_flushed {
            self.close();
        } else if self.pending.is_empty() {
            // of a pipe the other end's closing is told; a terminal tells of hang-ups by its output
            fd.want((!self.terminal).then(EventFlags::empty));
        } else {
            fd.want(Some(EventFlags::OUT));
        }
    }

    /// The descriptor is ready, or broken.
    pub(super) fn on_event(&mut self, flags: EventFlags) {
        if flags.contains(EventFlags::ERR) && !self.terminal {
            self.close();
        } else {
            self.flush();
            if self.terminal
                && flags.intersects(EventFlags::HUP | EventFlags::ERR)
                && !self.pending.is_empty()
            {
                self.close();
            }
        }
    }
}
