//! One attached client: its socket, what it wants, and what it has not taken yet.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use wharf_logs::Stream;
use wharf_stdio::{AttachEvent, AttachRequest, ClosedBy, Framing, frame};

use super::keys::{Keys, Typed};
use super::poll::Watched;
use super::stdin::Stdin;

/// Bytes held for a client; beyond, the process's output waits for it.
const BOUND: usize = 256 * 1024;
/// How long a client may take nothing while it holds output back, or delays the end.
pub(super) const STALL: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    data: Watched,
    /// Where events go; none if it became the data socket.
    control: Option<OwnedFd>,
    request: AttachRequest,
    keys: Option<Keys>,
    out: Vec<u8>,
    /// When it last took something, or had nothing to take.
    progress: Instant,
    input: Input,
    /// Why it is to go once it has taken everything.
    ending: Option<AttachEvent>,
    gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// More may come.
    Open,
    /// It hung up, but what it sent is not read yet, for want of room.
    HungUp,
    /// It sent all.
    Ended,
}

/// What a client's input has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing that concerns others.
    Nothing,
    /// A client with stdin has sent all it ever will.
    StdinEnded,
}

impl Client {
    pub(super) fn new(
        data: Watched,
        control: Option<OwnedFd>,
        request: AttachRequest,
        terminal: bool,
    ) -> Client {
        let keys = if terminal { Keys::new(&request.detach_keys) } else { None };
        let mut client = Client {
            data,
            control,
            request,
            keys,
            out: Vec::new(),
            progress: Instant::now(),
            input: Input::Open,
            ending: None,
            gone: false,
        };
        match client.control {
            Some(_) => client.tell(&AttachEvent::Attached),
            None => {
                client.out = frame::encode(&AttachEvent::Attached).unwrap_or_default();
                client.flush();
            }
        }
        client
    }

    /// The bytes that the engine had read before it handed the client over.
    pub(super) fn take_buffered(&mut self, stdin: &mut Stdin) {
        let buffered = std::mem::take(&mut self.request.buffered);
        self.typed(&buffered, stdin);
    }

    /// Whether it is to be forgotten.
    pub(super) fn is_done(&self) -> bool {
        self.gone
    }

    /// Whether the process's output should wait for it.
    pub(super) fn is_full(&self) -> bool {
        self.ending.is_none() && self.out.len() > BOUND
    }

    /// When it has to have taken something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.is_full() || self.ending.is_some()).then(|| self.progress + STALL)
    }

    /// Drops it if its time is up.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.leave(&AttachEvent::Closed { by: ClosedBy::Stalled });
        }
    }

    /// Output of the process.
    pub(super) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let wanted = match stream {
            Stream::Stdout => self.request.stdout,
            Stream::Stderr => self.request.stderr,
        };
        if !wanted || self.gone || self.ending.is_some() {
            return;
        }
        let header = frame::multiplex_header(stream as u8 + 1, bytes.len() as u32);
        let header: &[u8] = match self.request.framing {
            Framing::Raw => &[],
            Framing::Multiplexed => &header,
        };
        let mut sent = 0;
        if self.out.is_empty() {
            self.progress = Instant::now();
            let parts = [IoSlice::new(header), IoSlice::new(bytes)];
            let mut none = SendAncillaryBuffer::default();
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::sendmsg(&self.data, &parts, &mut none, flags) {
                Ok(n) => sent = n,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return self.leave(&AttachEvent::Closed { by: ClosedBy::Client }),
            }
        }
        let of_header = sent.min(header.len());
        self.out.extend_from_slice(&header[of_header..]);
        self.out.extend_from_slice(&bytes[sent - of_header..]);
    }

    /// Sends what is held as far as it goes.
    pub(super) fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.out.len() && !self.gone {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.data, &self.out[sent..], flags) {
                Ok(n) => {
                    sent += n;
                    self.progress = Instant::now();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.leave(&AttachEvent::Closed { by: ClosedBy::Client }),
            }
        }
        self.out.drain(..sent.min(self.out.len()));
        if self.out.is_empty() {
            self.out = Vec::new();
            if let Some(event) = self.ending.take() {
                self.leave(&event);
            }
        }
    }

    /// It is to go once it has taken everything.
    pub(super) fn end(&mut self, event: AttachEvent) {
        if self.ending.is_none() && !self.gone {
            self.progress = Instant::now();
            self.ending = Some(event);
            self.flush();
        }
    }

    /// Its socket is ready, or broken.
    pub(super) fn on_event(&mut self, flags: EventFlags, stdin: &mut Stdin, buffer: &mut [u8]) -> Heard {
        let before = self.input;
        if flags.contains(EventFlags::OUT) {
            self.flush();
        }
        let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if flags.contains(EventFlags::IN) || hung_up {
            self.read(hung_up, stdin, buffer);
        }
        self.heard(before)
    }

    /// There is room for input again.
    pub(super) fn on_room(&mut self, stdin: &mut Stdin, buffer: &mut [u8]) -> Heard {
        let before = self.input;
        if self.input == Input::HungUp {
            self.read(true, stdin, buffer);
        }
        self.heard(before)
    }

    fn heard(&self, before: Input) -> Heard {
        let ended = before != Input::Ended && self.input == Input::Ended;
        if ended && self.request.stdin { Heard::StdinEnded } else { Heard::Nothing }
    }

    fn read(&mut self, hung_up: bool, stdin: &mut Stdin, buffer: &mut [u8]) {
        while self.input != Input::Ended && !self.gone {
            if !stdin.has_room() {
                if hung_up {
                    self.input = Input::HungUp;
                }
                return;
            }
            match rustix::net::recv(&self.data, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.input = Input::Ended,
                Ok((n, _)) => self.typed(&buffer[..n], stdin),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.input = Input::Ended,
            }
            if !hung_up {
                break;
            }
        }
        if hung_up && self.input == Input::Ended {
            self.leave(&AttachEvent::Closed { by: ClosedBy::Client });
        }
    }

    fn typed(&mut self, bytes: &[u8], stdin: &mut Stdin) {
        let (input, detach) = match &mut self.keys {
            None => (bytes.to_vec(), false),
            Some(keys) => match keys.take(bytes) {
                Typed::Input(input) => (input, false),
                Typed::Detach(input) => (input, true),
            },
        };
        if self.request.stdin {
            stdin.give(&input);
        }
        if detach {
            // it did not end its input: others may go on
            self.input = Input::Ended;
            self.request.stdin = false;
            self.end(AttachEvent::Detached);
        }
    }

    /// Sets what its socket is watched for.
    pub(super) fn watch(&mut self, room: bool) {
        let mut flags = EventFlags::empty();
        if self.input == Input::Open && room {
            flags |= EventFlags::IN;
        }
        if !self.out.is_empty() {
            flags |= EventFlags::OUT;
        }
        // a hang-up is told again and again: not while its input waits for room
        let quiet = self.gone || self.input == Input::HungUp && self.out.is_empty();
        self.data.want((!quiet).then_some(flags));
    }

    /// Lets it go with its stream open at the engine's descriptor.
    pub(super) fn give_back(&mut self) {
        if !self.gone {
            self.gone = true;
            self.tell(&AttachEvent::Closed { by: ClosedBy::Exit });
        }
    }

    fn leave(&mut self, event: &AttachEvent) {
        if self.gone {
            return;
        }
        self.gone = true;
        self.out = Vec::new();
        // unread input would turn the close into a reset, which can overtake the last output
        let mut scrap = [0; 4096];
        for _ in 0..64 {
            match rustix::net::recv(&self.data, &mut scrap[..], RecvFlags::DONTWAIT) {
                Ok((n, _)) if n > 0 => {}
                _ => break,
            }
        }
        let _ = rustix::net::shutdown(&self.data, Shutdown::Both);
        self.tell(event);
    }

    fn tell(&self, event: &AttachEvent) {
        if let (Some(control), Ok(bytes)) = (&self.control, frame::encode(event)) {
            // the engine may be gone, and need not be there
            let _ = rustix::net::send(control, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
}
