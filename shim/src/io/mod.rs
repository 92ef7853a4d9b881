//! The streams of every process: one thread, one epoll, no copy but this.
//!
//! A session is one process's streams. It has *sources* (the read ends of its output
//! pipes, or its terminal's master), a *sink* (FIFOs, files, a logging program, or the Wharf log and its
//! attached clients) and its *stdin*. The thread owns all of it; other threads send commands.
//!
//! No daemon is needed for any of it, and none can block it: a FIFO without a reader holds back only the
//! process that writes to it (as with containerd's shim), a log is written by the thread itself, and
//! a client that takes nothing is dropped after a while.

mod attach;
mod client;
mod dest;
mod keys;
mod logger;
mod open;
mod pipes;
mod plan;
mod poll;
mod session;
mod stdin;
mod thread;

pub use logger::Logger;
pub use open::{OpenError, Opened, Owner, Parts, open};
pub use pipes::{Console, ConsoleSocket, Pipes, Sources};
pub use plan::{Plan, PlanError};
pub use poll::Ready;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{EventfdFlags, eventfd};

/// Names a session.
pub type SessionId = u32;

/// Called on the streams' thread: it must not block.
pub type Done = Box<dyn FnOnce() + Send>;

/// Called on the streams' thread when a descriptor is ready; tells whether to go on watching.
pub type OnReady = Box<dyn FnMut() -> Ready + Send>;

enum Command {
    Add(SessionId, Box<Parts>),
    Connect(SessionId, Sources),
    CloseStdin(SessionId),
    Exited(SessionId, Done),
    Abandoned(SessionId),
    Close(SessionId, Done),
    Watch(OwnedFd, OnReady),
    WhenIdle(Done),
}

/// The way to the streams' thread.
pub struct Io {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    next: AtomicU32,
}

impl Io {
    /// Starts the thread.
    ///
    /// # Errors
    /// If a descriptor or the thread cannot be made.
    pub fn start() -> std::io::Result<Io> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (commands, receiver): (_, Receiver<Command>) = channel();
        let looped = thread::Loop::new(receiver, Arc::clone(&wake))?;
        std::thread::Builder::new().name("io".into()).stack_size(256 * 1024).spawn(move || looped.run())?;
        Ok(Io { commands, wake, next: AtomicU32::new(1) })
    }

    /// Makes a session of what was [`open`]ed; its attach socket is served from now on.
    pub fn add(&self, parts: Parts) -> SessionId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(Command::Add(id, Box::new(parts)));
        id
    }

    /// Gives a session its process's descriptors; copying begins.
    pub fn connect(&self, id: SessionId, sources: Sources) {
        self.send(Command::Connect(id, sources));
    }

    /// Closes the process's standard input once what was given for it is written.
    pub fn close_stdin(&self, id: SessionId) {
        self.send(Command::CloseStdin(id));
    }

    /// The process ended. `done` is called when everything it wrote is in the log and with the clients, who
    /// are then let go. Output of others that hold its descriptors is still logged.
    pub fn exited(&self, id: SessionId, done: impl FnOnce() + Send + 'static) {
        self.send(Command::Exited(id, Box::new(done)));
    }

    /// The process never ran. Clients are let go without an end of their stream, since the engine, which has kept a
    /// descriptor of theirs until the start is over, has the reason to tell them.
    pub fn abandoned(&self, id: SessionId) {
        self.send(Command::Abandoned(id));
    }

    /// Ends a session. `done` is called when FIFOs have taken everything, at the latest after ten seconds;
    /// at once for other sinks. Clients that have not taken all go on being served.
    pub fn close(&self, id: SessionId, done: impl FnOnce() + Send + 'static) {
        self.send(Command::Close(id, Box::new(done)));
    }

    /// Calls `on_ready` whenever `fd` is readable, until it says to stop.
    pub fn watch(&self, fd: OwnedFd, on_ready: impl FnMut() -> Ready + Send + 'static) {
        self.send(Command::Watch(fd, Box::new(on_ready)));
    }

    /// Calls `done` when no session is left, that of a slow client included.
    pub fn when_idle(&self, done: impl FnOnce() + Send + 'static) {
        self.send(Command::WhenIdle(Box::new(done)));
    }

    fn send(&self, command: Command) {
        // the thread ends with the process only
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}
