//! epoll, and descriptors that know what they are watched for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::SessionId;

/// Whether to go on watching a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Call again when it is ready again.
    Again,
    /// No more.
    Stop,
}

/// What an event is about: a session and one of its descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub session: SessionId,
    pub slot: u32,
}

/// Not a session: the command queue.
pub(super) const COMMANDS: Token = Token { session: 0, slot: 0 };
/// Not a session: watches, by slot.
pub(super) const WATCHES: SessionId = SessionId::MAX;

impl Token {
    fn data(self) -> EventData {
        EventData::new_u64(u64::from(self.session) << 32 | u64::from(self.slot))
    }

    fn of(data: EventData) -> Token {
        let data = data.u64();
        Token { session: (data >> 32) as u32, slot: data as u32 }
    }
}

/// The epoll instance; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Poll(Arc<OwnedFd>);

impl Poll {
    pub(super) fn new() -> io::Result<Poll> {
        Ok(Poll(Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?)))
    }

    /// Waits for events until `deadline`; an interruption is no event.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Vec<(Token, EventFlags)> {
        let timeout = deadline.map(|at| {
            // rounded up, so that the deadline has passed when it is looked at
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let mut events = Vec::with_capacity(32);
        let spare = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.0, spare, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        events.iter().map(|event: &epoll::Event| (Token::of(event.data), event.flags)).collect()
    }
}

/// A descriptor in an epoll instance. It is taken out explicitly before it is closed, since another
/// process may hold the same open file, which would keep its events coming.
#[derive(Debug)]
pub(super) struct Watched {
    fd: OwnedFd,
    poll: Poll,
    token: Token,
    wanted: Option<EventFlags>,
}

impl Watched {
    pub(super) fn new(poll: &Poll, token: Token, fd: OwnedFd) -> Watched {
        Watched { fd, poll: poll.clone(), token, wanted: None }
    }

    /// Watches for `flags`; `Some` of none still tells of errors and hang-ups, `None` of nothing at all.
    pub(super) fn want(&mut self, flags: Option<EventFlags>) {
        if flags == self.wanted {
            return;
        }
        let poll = &*self.poll.0;
        let done = match (self.wanted, flags) {
            (None, Some(flags)) => epoll::add(poll, &self.fd, self.token.data(), flags),
            (Some(_), Some(flags)) => epoll::modify(poll, &self.fd, self.token.data(), flags),
            (_, None) => epoll::delete(poll, &self.fd),
        };
        match done {
            Ok(()) => self.wanted = flags,
            Err(e) => crate::log::error(format_args!("epoll of {:?}: {e}", self.token)),
        }
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.want(None);
    }
}
