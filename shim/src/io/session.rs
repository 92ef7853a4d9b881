//! One process's streams.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use wharf_logs::{LogFile, Stream};
use wharf_stdio::{AttachEvent, ClosedBy, StdinMode};

use super::attach::{Listener, Pending, Progress};
use super::client::{Client, Heard};
use super::dest::Dest;
use super::open::{FeedParts, Parts, SinkParts};
use super::pipes::Sources;
use super::poll::{Poll, Token, Watched};
use super::stdin::Stdin;
use super::{Done, SessionId};
use crate::log;

/// How long FIFOs may take to be read to the end once the session is closed.
const CLOSE: Duration = Duration::from_secs(10);
/// Bytes drained at a process's end at most: a grandchild may go on writing for ever. A pipe holds a
/// megabyte at most.
const DRAIN: usize = 2 * 1024 * 1024;
/// How long the readers of FIFOs may take for what a process left there before its end is told.
const TAKE: Duration = Duration::from_millis(500);
/// How often it is looked whether they have: nothing tells of an emptied FIFO.
const LOOK: Duration = Duration::from_millis(1);
const MAX_CLIENTS: usize = 64;
const MAX_PENDING: usize = 16;

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

/// The process has ended, and what it wrote is still in the FIFOs.
struct Leaving {
    look: Instant,
    give_up: Instant,
    done: Done,
}

enum Sink {
    Null,
    Forward([Option<Dest>; 2]),
    Wharf(Box<Wharf>),
}

struct Wharf {
    log: Option<Box<LogFile>>,
    /// A fault of the log was told; not again until it works.
    log_faulty: bool,
    listener: Option<Listener>,
    pending: Vec<(u32, Pending)>,
    clients: Vec<(u32, Client)>,
    next_slot: u32,
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

    /// The process ended: delivers what it wrote, then lets clients go, then calls `done`.
    ///
    /// FIFOs get some time to be emptied before: a client that hears of the end gives up a FIFO that it is only about
    /// to open, and with it what is in there (containerd's does).
    pub(super) fn exited(&mut self, buffer: &mut [u8], done: Done) {
        self.stdin.close();
        self.fifo_in = None;
        for i in 0..2 {
            self.drain(i, buffer);
        }
        if let Sink::Wharf(wharf) = &mut self.sink {
            wharf.let_go("the process has ended");
        }
        self.phase = Phase::Exited;
        let now = Instant::now();
        self.leaving = Some(Leaving { look: now, give_up: now + TAKE, done });
        self.leave(now);
    }

    /// Tells of the end if the FIFOs were emptied or had their time.
    fn leave(&mut self, now: Instant) {
        let Some(leaving) = &mut self.leaving else { return };
        let taken = match &self.sink {
            Sink::Forward(dests) => dests.iter().flatten().all(Dest::is_taken),
            _ => true,
        };
        if !taken && now < leaving.give_up {
            leaving.look = now + LOOK;
            return;
        }
        if let Some(leaving) = self.leaving.take() {
            (leaving.done)();
        }
        self.flush_dest(0);
        self.flush_dest(1);
    }

    /// The process never ran: there is nothing to deliver.
    pub(super) fn abandon(&mut self) {
        self.stdin.close();
        self.fifo_in = None;
        if let Sink::Wharf(wharf) = &mut self.sink {
            for (_, client) in &mut wharf.clients {
                client.give_back();
            }
            wharf.let_go("the process was not started");
        }
        self.phase = Phase::Exited;
    }

    /// Ends the session when all is delivered; `done` then, or after [`CLOSE`].
    pub(super) fn close(&mut self, done: Done, buffer: &mut [u8]) {
        self.stdin.close();
        self.fifo_in = None;
        if let Some(leaving) = &mut self.leaving {
            leaving.give_up = Instant::now();
        }
        self.leave(Instant::now());
        if matches!(self.sink, Sink::Wharf(_)) {
            for i in 0..2 {
                self.drain(i, buffer);
                self.source_ended(i);
            }
        }
        if let Sink::Wharf(wharf) = &mut self.sink {
            wharf.let_go("the process was deleted");
            wharf.log = None;
        }
        self.phase = Phase::Closing { deadline: Instant::now() + CLOSE, done: Some(done) };
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

    /// Reads a source once; the bytes read, 0 if there are none now or ever.
    fn read(&mut self, i: usize, buffer: &mut [u8]) -> usize {
        let Some(source) = &self.sources[i] else { return 0 };
        match rustix::io::read(source, &mut *buffer) {
            Ok(0) => self.source_ended(i),
            Ok(n) => {
                self.deliver(i, &buffer[..n]);
                return n;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // of a terminal: nobody has it open any more
            Err(_) => self.source_ended(i),
        }
        0
    }

    fn drain(&mut self, i: usize, buffer: &mut [u8]) {
        let mut left = DRAIN;
        while left > 0 {
            match self.read(i, buffer) {
                0 => return,
                n => left = left.saturating_sub(n),
            }
        }
    }

    fn deliver(&mut self, i: usize, bytes: &[u8]) {
        match &mut self.sink {
            Sink::Null => {}
            Sink::Forward(dests) => {
                if let Some(dest) = &mut dests[i]
                    && let Err(e) = dest.write(bytes)
                {
                    log::warn(format_args!("output cannot be forwarded: {e}"));
                    dests[i] = None;
                }
            }
            Sink::Wharf(wharf) => wharf.deliver(STREAMS[i], bytes),
        }
    }

    fn source_ended(&mut self, i: usize) {
        if self.sources[i].take().is_none() {
            return;
        }
        match &mut self.sink {
            Sink::Null => {}
            Sink::Forward(_) => self.flush_dest(i),
            Sink::Wharf(wharf) => wharf.finish(STREAMS[i]),
        }
    }

    fn flush_dest(&mut self, i: usize) {
        let waited_for = self.is_open() || self.leaving.is_some();
        let Sink::Forward(dests) = &mut self.sink else { return };
        let Some(dest) = &mut dests[i] else { return };
        let broken = dest.flush().is_err();
        // its reader finds the end once all is there; while it may have yet to come, it is kept what there is
        let ended = self.sources[i].is_none() && dest.is_flushed();
        let kept = waited_for && !dest.is_taken();
        if broken || ended && !kept {
            dests[i] = None;
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

    fn accept(&mut self) {
        let Sink::Wharf(wharf) = &mut self.sink else { return };
        let Some(connection) = wharf.listener.as_ref().and_then(Listener::accept) else { return };
        if wharf.pending.len() >= MAX_PENDING {
            return;
        }
        let slot = wharf.next_slot;
        wharf.next_slot = slot.checked_add(1).unwrap_or(FIRST_CLIENT);
        let token = Token { session: self.id, slot };
        wharf.pending.push((slot, Pending::new(connection, &self.poll, token)));
    }

    fn on_client(&mut self, slot: u32, flags: EventFlags, buffer: &mut [u8]) {
        let Sink::Wharf(wharf) = &mut self.sink else { return };
        if let Some(at) = wharf.pending.iter().position(|(s, _)| *s == slot) {
            match wharf.pending[at].1.on_readable(buffer) {
                Progress::Waiting => {}
                Progress::Over => {
                    wharf.pending.remove(at);
                }
                Progress::Request(request, client) => {
                    let (_, pending) = wharf.pending.remove(at);
                    if wharf.clients.len() >= MAX_CLIENTS {
                        return pending.refuse("too many clients are attached".to_owned());
                    }
                    let Ok(control) = pending.control() else { return };
                    drop(pending);
                    let (data, control) = match client {
                        Some(client) => (client, Some(control)),
                        None => (control, None),
                    };
                    let data = Watched::new(&self.poll, Token { session: self.id, slot }, data);
                    let mut client = Client::new(data, control, *request, self.terminal);
                    client.take_buffered(&mut self.stdin);
                    wharf.clients.push((slot, client));
                }
            }
        } else if let Some((_, client)) = wharf.clients.iter_mut().find(|(s, _)| *s == slot) {
            let heard = client.on_event(flags, &mut self.stdin, buffer);
            self.on_heard(heard);
        }
    }

    fn on_heard(&mut self, heard: Heard) {
        if heard == Heard::StdinEnded && self.stdin_once {
            self.stdin.close_when_flushed();
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

    /// When [`Session::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let closing = match &self.phase {
            Phase::Closing { deadline, .. } if !matches!(self.sink, Sink::Wharf(_)) => Some(*deadline),
            _ => None,
        };
        let leaving = self.leaving.as_ref().map(|l| l.look);
        let closing = closing.into_iter().chain(leaving).min();
        let Sink::Wharf(wharf) = &self.sink else { return closing };
        let pending = wharf.pending.iter().map(|(_, p)| p.deadline);
        pending.chain(wharf.clients.iter().filter_map(|(_, c)| c.deadline())).min()
    }

    /// Gives up what took too long.
    pub(super) fn tick(&mut self, now: Instant) {
        self.leave(now);
        if let Sink::Wharf(wharf) = &mut self.sink {
            wharf.pending.retain(|(_, p)| p.deadline > now);
            for (_, client) in &mut wharf.clients {
                client.expire(now);
            }
        }
        if let Phase::Closing { deadline, .. } = &self.phase
            && *deadline <= now
            && let Sink::Forward(dests) = &mut self.sink
        {
            log::warn(format_args!("output was not read within {} s of the end", CLOSE.as_secs()));
            *dests = [None, None];
            self.sources = [None, None];
        }
    }

    /// Whether it is over: everything was delivered or given up. Calls what waits for that.
    pub(super) fn is_over(&mut self) -> bool {
        let Phase::Closing { done, .. } = &mut self.phase else { return false };
        let delivered = match &self.sink {
            Sink::Null => true,
            Sink::Forward(dests) => {
                self.sources.iter().all(Option::is_none) && dests.iter().flatten().all(Dest::is_flushed)
            }
            Sink::Wharf(_) => true,
        };
        if delivered && let Some(done) = done.take() {
            done();
        }
        match &self.sink {
            Sink::Wharf(wharf) => wharf.clients.is_empty(),
            _ => delivered,
        }
    }

    /// Whether the process's end is still to come.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }
}

impl Wharf {
    fn deliver(&mut self, stream: Stream, bytes: &[u8]) {
        // the log first: a client that sees a line may look for it there
        let written = self.log.as_mut().map(|log| log.write(stream, bytes));
        self.note(written);
        for (_, client) in &mut self.clients {
            client.output(stream, bytes);
        }
    }

    fn finish(&mut self, stream: Stream) {
        let written = self.log.as_mut().map(|log| log.finish(stream));
        self.note(written);
    }

    fn note(&mut self, written: Option<Result<(), wharf_logs::WriteError>>) {
        match written {
            Some(Err(e)) if !self.log_faulty => {
                log::error(format_args!("{e}; output is held and tried again"));
                self.log_faulty = true;
            }
            Some(Ok(())) => self.log_faulty = false,
            _ => {}
        }
    }

    /// No more clients; those there are go once they have taken everything.
    fn let_go(&mut self, reason: &str) {
        self.listener = None;
        for (_, pending) in self.pending.drain(..) {
            pending.refuse(reason.to_owned());
        }
        for (_, client) in &mut self.clients {
            client.end(AttachEvent::Closed { by: ClosedBy::Exit });
        }
    }
}
