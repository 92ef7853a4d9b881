//! Where output goes: read from the process, delivered to FIFOs, files, or the Wharf log and its clients.

use rustix::io::Errno;
use wharf_logs::{LogFile, Stream};
use wharf_stdio::{AttachEvent, ClosedBy};

use super::{STREAMS, Session};
use crate::io::attach::{Listener, Pending};
use crate::io::client::Client;
use crate::io::dest::Dest;
use crate::log;

/// Bytes drained at a process's end at most: a grandchild may go on writing for ever. A pipe holds a
/// megabyte at most.
const DRAIN: usize = 2 * 1024 * 1024;

pub(super) enum Sink {
    Null,
    Forward([Option<Dest>; 2]),
    Wharf(Box<Wharf>),
}

pub(super) struct Wharf {
    pub(super) log: Option<Box<LogFile>>,
    /// A fault of the log was told; not again until it works.
    pub(super) log_faulty: bool,
    pub(super) listener: Option<Listener>,
    pub(super) pending: Vec<(u32, Pending)>,
    pub(super) clients: Vec<(u32, Client)>,
    pub(super) next_slot: u32,
}

impl Session {
    /// Reads a source once; the bytes read, 0 if there are none now or ever.
    pub(super) fn read(&mut self, i: usize, buffer: &mut [u8]) -> usize {
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

    pub(super) fn drain(&mut self, i: usize, buffer: &mut [u8]) {
        let mut left = DRAIN;
        while left > 0 {
            match self.read(i, buffer) {
                0 => return,
                n => left = left.saturating_sub(n),
            }
        }
    }

    pub(super) fn deliver(&mut self, i: usize, bytes: &[u8]) {
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

    pub(super) fn source_ended(&mut self, i: usize) {
        if self.sources[i].take().is_none() {
            return;
        }
        match &mut self.sink {
            Sink::Null => {}
            Sink::Forward(_) => self.flush_dest(i),
            Sink::Wharf(wharf) => wharf.finish(STREAMS[i]),
        }
    }

    pub(super) fn flush_dest(&mut self, i: usize) {
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
}

impl Wharf {
    pub(super) fn deliver(&mut self, stream: Stream, bytes: &[u8]) {
        // the log first: a client that sees a line may look for it there
        let written = self.log.as_mut().map(|log| log.write(stream, bytes));
        self.note(written);
        for (_, client) in &mut self.clients {
            client.output(stream, bytes);
        }
    }

    pub(super) fn finish(&mut self, stream: Stream) {
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
    pub(super) fn let_go(&mut self, reason: &str) {
        self.listener = None;
        for (_, pending) in self.pending.drain(..) {
            pending.refuse(reason.to_owned());
        }
        for (_, client) in &mut self.clients {
            client.end(AttachEvent::Closed { by: ClosedBy::Exit });
        }
    }
}
