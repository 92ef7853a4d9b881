//! How a session ends: the process has ended, its output is delivered, those who wait are told.

use std::time::{Duration, Instant};

use super::output::Sink;
use super::{Phase, Session};
use crate::io::Done;
use crate::io::dest::Dest;
use crate::log;

/// How long FIFOs may take to be read to the end once the session is closed.
const CLOSE: Duration = Duration::from_secs(10);
/// How long the readers of FIFOs may take for what a process left there before its end is told.
const TAKE: Duration = Duration::from_millis(500);
/// How often it is looked whether they have: nothing tells of an emptied FIFO.
const LOOK: Duration = Duration::from_millis(1);

/// The process has ended, and what it wrote is still in the FIFOs.
pub(super) struct Leaving {
    pub(super) look: Instant,
    pub(super) give_up: Instant,
    pub(super) done: Done,
}

impl Session {
    /// The process ended: delivers what it wrote, then lets clients go, then calls `done`.
    ///
    /// FIFOs get some time to be emptied before: a client that hears of the end gives up a FIFO that it is only about
    /// to open, and with it what is in there (containerd's does).
    pub(in crate::io) fn exited(&mut self, buffer: &mut [u8], done: Done) {
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
    pub(super) fn leave(&mut self, now: Instant) {
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
    pub(in crate::io) fn abandon(&mut self) {
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
    pub(in crate::io) fn close(&mut self, done: Done, buffer: &mut [u8]) {
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

    /// When [`Session::tick`] is due.
    pub(in crate::io) fn deadline(&self) -> Option<Instant> {
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
    pub(in crate::io) fn tick(&mut self, now: Instant) {
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
    pub(in crate::io) fn is_over(&mut self) -> bool {
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
    pub(in crate::io) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }
}
