//! One process's streams.

mod clients;
mod end;
mod output;

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use wharf_logs::Stream;
use wharf_stdio::StdinMode;

use self::end::Leaving;
use self::output::{Sink, Wharf};
use super::attach::Listener;
use super::client::Heard;
use super::dest::Dest;
use super::open::{FeedParts, Parts, SinkParts};
use super::pipes::Sources;
use super::poll::{Poll, Token, Watched};
use super::stdin::Stdin;
use super::{Done, SessionId};

const SOURCES: [u32; 2] = [1, 2];
const STDIN: u32 = 3;
const FIFO_IN: u32 = 4;
const LISTENER: u32 = 5;
const DESTS: [u32; 2] = [6, 7];
/// Slots from here on are attach connections and clients.
const FIRST_CLIENT: u32 = 16;
const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// See the module.
pub(super) struct Session {
    id: SessionId,
    poll: Poll,
    terminal: bool,
    sources: [Option<Watched>; 2],
    sink: Sink,
    stdin: Stdin,
    fifo_in: Option<(Watched, Option<OwnedFd>)>,
    stdin_once: bool,
    phase: Phase,
    leaving: Option<Leaving>,
}

enum Phase {
    /// The process is to come, or lives.
    Open,
    /// It ended; others may hold its descriptors.
    Exited,
    /// The session is to end when all is delivered.
    Closing { deadline: Instant, done: Option<Done> },
}

impl Session {
    pub(super) fn new(id: SessionId, parts: Parts, poll: &Poll) -> Session {
        let token = |slot| Token { session: id, slot };
        let sink = match parts.sink {
            SinkParts::Null => Sink::Null,
            SinkParts::Forward([out, err]) => Sink::Forward([
                out.map(|d| Dest::new(d, poll, token(DESTS[0]))),
                err.map(|d| Dest::new(d, poll, token(DESTS[1]))),
            ]),
            SinkParts::Wharf { log, attach } => Sink::Wharf(Box::new(Wharf {
                log,
                log_faulty: false,
                listener: attach.and_then(|a| Listener::new(a, poll, token(LISTENER))),
                pending: Vec::new(),
                clients: Vec::new(),
                next_slot: FIRST_CLIENT,
            })),
        };
        let mut stdin_once = false;
        let mut fifo_in = None;
        match parts.feed {
            FeedParts::None => {}
            FeedParts::Fifo { read, keep } => {
                fifo_in = Some((Watched::new(poll, token(FIFO_IN), read), Some(keep)));
            }
            FeedParts::Clients(mode) => stdin_once = mode == StdinMode::Once,
        }
        let mut session = Session {
            id,
            poll: poll.clone(),
            terminal: parts.terminal,
            sources: [None, None],
            sink,
            stdin: Stdin::new(parts.terminal),
            fifo_in,
            stdin_once,
            phase: Phase::Open,
            leaving: None,
        };
        session.update();
        session
    }

    /// The process's descriptors.
    pub(super) fn connect(&mut self, sources: Sources) {
        let token = |slot| Token { session: self.id, slot };
        self.stdin.connect(sources.stdin, &self.poll, token(STDIN));
        for (i, fd) in [sources.stdout, sources.stderr].into_iter().enumerate() {
            self.sources[i] = fd.map(|fd| Watched::new(&self.poll, token(SOURCES[i]), fd));
        }
    }

    /// Closes the process's stdin after what was given.
    pub(super) fn close_stdin(&mut self) {
        match &mut self.fifo_in {
            // what is in the FIFO comes first: its end closes stdin
            Some((_, keep)) => *keep = None,
            None => self.stdin.close_when_flushed(),
        }
    }

    /// Something of it is ready.
    pub(super) fn on_event(&mut self, slot: u32, flags: EventFlags, buffer: &mut [u8]) {
        match slot {
            1 | 2 => {
                self.read(slot as usize - 1, buffer);
            }
            STDIN => self.stdin.on_event(flags),
            FIFO_IN => self.read_fifo(buffer),
            LISTENER => self.accept(),
            6 | 7 => self.flush_dest(slot as usize - 6),
            _ => self.on_client(slot, flags, buffer),
        }
    }

    fn read_fifo(&mut self, buffer: &mut [u8]) {
        let Some((fifo, _)) = &self.fifo_in else { return };
        match rustix::io::read(fifo, &mut *buffer) {
            Ok(0) => {
                self.fifo_in = None;
                self.stdin.close_when_flushed();
            }
            Ok(n) => self.stdin.give(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.fifo_in = None,
        }
    }

    /// After anything happened: input that waited for room, and what each descriptor is watched for.
    pub(super) fn settle(&mut self, buffer: &mut [u8]) {
        let Sink::Wharf(wharf) = &mut self.sink else { return self.update() };
        let mut ended = false;
        for (_, client) in &mut wharf.clients {
            ended |= client.on_room(&mut self.stdin, buffer) == Heard::StdinEnded;
        }
        wharf.clients.retain(|(_, client)| !client.is_done());
        if ended {
            self.on_heard(Heard::StdinEnded);
        }
        self.update();
    }

    fn update(&mut self) {
        let room = self.stdin.has_room();
        let mut held = [false; 2];
        match &mut self.sink {
            Sink::Null => {}
            Sink::Forward(dests) => {
                for (held, dest) in held.iter_mut().zip(dests) {
                    *held = dest.as_ref().is_some_and(|d| !d.is_flushed());
                }
            }
            Sink::Wharf(wharf) => {
                for (_, client) in &mut wharf.clients {
                    client.watch(room);
                }
                held = [wharf.clients.iter().any(|(_, c)| c.is_full()); 2];
            }
        }
        for (source, held) in self.sources.iter_mut().zip(held) {
            if let Some(source) = source {
                source.want((!held).then_some(EventFlags::IN));
            }
        }
        if let Some((fifo, _)) = &mut self.fifo_in {
            fifo.want(room.then_some(EventFlags::IN));
        }
    }
}
