//! The streams' thread.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::poll::{COMMANDS, Poll, Ready, Token, WATCHES, Watched};
use super::session::Session;
use super::{Command, Done, OnReady, SessionId};

/// A pipe's usual capacity, so that one read empties it.
const BUFFER: usize = 64 * 1024;

/// See the module.
pub(super) struct Loop {
    commands: Receiver<Command>,
    wake: Watched,
    poll: Poll,
    sessions: HashMap<SessionId, Session>,
    watches: HashMap<u32, (Watched, OnReady)>,
    next_watch: u32,
    when_idle: Vec<Done>,
    buffer: Vec<u8>,
}

impl Loop {
    pub(super) fn new(commands: Receiver<Command>, wake: Arc<OwnedFd>) -> io::Result<Loop> {
        let poll = Poll::new()?;
        let mut wake = Watched::new(&poll, COMMANDS, wake.try_clone()?);
        wake.want(Some(EventFlags::IN));
        Ok(Loop {
            commands,
            wake,
            poll,
            sessions: HashMap::new(),
            watches: HashMap::new(),
            next_watch: 0,
            when_idle: Vec::new(),
            buffer: vec![0; BUFFER],
        })
    }

    pub(super) fn run(mut self) {
        loop {
            let deadline = self.sessions.values().filter_map(Session::deadline).min();
            let mut touched = Vec::new();
            for (token, flags) in self.poll.wait(deadline) {
                touched.extend(self.on_event(token, flags));
            }
            // the queue after the descriptors: a process's output before its end
            while let Ok(command) = self.commands.try_recv() {
                touched.extend(self.on_command(command));
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                let now = Instant::now();
                for (id, session) in &mut self.sessions {
                    session.tick(now);
                    touched.push(*id);
                }
            }
            for id in touched {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.settle(&mut self.buffer);
                    if session.is_over() {
                        self.sessions.remove(&id);
                    }
                }
            }
            if self.sessions.is_empty() {
                self.when_idle.drain(..).for_each(|done| done());
            }
        }
    }

    fn on_event(&mut self, token: Token, flags: EventFlags) -> Option<SessionId> {
        match token {
            COMMANDS => {
                let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                None
            }
            Token { session: WATCHES, slot } => {
                let stop = self.watches.get_mut(&slot).is_none_or(|(_, ready)| ready() == Ready::Stop);
                if stop {
                    self.watches.remove(&slot);
                }
                None
            }
            Token { session, slot } => {
                self.sessions.get_mut(&session)?.on_event(slot, flags, &mut self.buffer);
                Some(session)
            }
        }
    }

    fn on_command(&mut self, command: Command) -> Option<SessionId> {
        match command {
            Command::Add(id, parts) => {
                self.sessions.insert(id, Session::new(id, *parts, &self.poll));
                Some(id)
            }
            Command::Connect(id, sources) => {
                self.sessions.get_mut(&id)?.connect(sources);
                Some(id)
            }
            Command::CloseStdin(id) => {
                self.sessions.get_mut(&id)?.close_stdin();
                Some(id)
            }
            Command::Exited(id, done) => {
                match self.sessions.get_mut(&id).filter(|s| s.is_open()) {
                    Some(session) => session.exited(&mut self.buffer, done),
                    None => done(),
                }
                Some(id)
            }
            Command::Abandoned(id) => {
                if let Some(session) = self.sessions.get_mut(&id).filter(|s| s.is_open()) {
                    session.abandon();
                }
                Some(id)
            }
            Command::Close(id, done) => {
                match self.sessions.get_mut(&id) {
                    Some(session) => session.close(done, &mut self.buffer),
                    None => done(),
                }
                Some(id)
            }
            Command::Watch(fd, on_ready) => {
                let slot = self.next_watch;
                self.next_watch = slot.wrapping_add(1);
                let mut fd = Watched::new(&self.poll, Token { session: WATCHES, slot }, fd);
                fd.want(Some(EventFlags::IN));
                self.watches.insert(slot, (fd, on_ready));
                None
            }
            Command::WhenIdle(done) => {
                self.when_idle.push(done);
                None
            }
        }
    }
}
