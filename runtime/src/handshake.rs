//! The conversation between the runtime (parent) and init, its child inside the container.
//!
//! One SOCK_SEQPACKET pair, one message a step. The steps come in the order they are declared in [`Step`]; which of
//! them take place is known to both sides before the fork (a [`Script`]), so each side always knows the one message
//! that may come next, and anything else ends the container.
//!
//! ```text
//!  parent                                   init
//!    │ ──────────────── Mapped ───────────────▶ │   only with a new user namespace
//!    │   (limits the cgroup meanwhile)          │   enters cgroup and namespaces, mounts
//!    │ ──────────── Placed (+ fds) ───────────▶ │   only where the cgroup is made meanwhile
//!    │ ◀─────────────── Mounted ─────────────── │   only with prestart/createRuntime hooks
//!    │ ─────────────── HooksDone ─────────────▶ │   only with those
//!    │                                          │   pivots, devices, masks, identity
//!    │ ◀────────── Terminal (+ pty fd) ──────── │   only if the parent itself serves the terminal
//!    │ ◀────────── Listener (+ fd) ──────────── │   only with seccomp notification
//!    │ ◀──────────────── Ready ──────────────── │
//!    │   (records the state)                    │
//!    │ ────────────────── Go ─────────────────▶ │
//!    │ ◀────────── end of file ──────────────── │   the program runs (close-on-exec), or for create: waits at the fifo
//! ```
//! In place of any message init may send `Failed` with the step that failed and why. End of file earlier means that
//! the other side died.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest failure text that is carried; longer ones are cut.
const MAX_TEXT: usize = 4096;
/// Most descriptors that one step carries.
pub const MAX_FDS: usize = 64;
const FAILED: u8 = 0xff;

/// The steps in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Step {
    Mapped = 1,
    Placed,
    Mounted,
    HooksDone,
    Terminal,
    Listener,
    Ready,
    Go,
}

/// Which optional steps take place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Script {
    pub maps_ids: bool,
    pub places: bool,
    pub runtime_hooks: bool,
    pub serves_terminal: bool,
    pub seccomp_listener: bool,
}

impl Script {
    const ORDER: [Step; 8] = [
        Step::Mapped,
        Step::Placed,
        Step::Mounted,
        Step::HooksDone,
        Step::Terminal,
        Step::Listener,
        Step::Ready,
        Step::Go,
    ];

    fn includes(self, step: Step) -> bool {
        match step {
            Step::Mapped => self.maps_ids,
            Step::Placed => self.places,
            Step::Mounted | Step::HooksDone => self.runtime_hooks,
            Step::Terminal => self.serves_terminal,
            Step::Listener => self.seccomp_listener,
            Step::Ready | Step::Go => true,
        }
    }

    /// The step after `last`, or None at the end.
    fn after(self, last: Option<Step>) -> Option<Step> {
        Self::ORDER.into_iter().find(|s| last.is_none_or(|l| *s > l) && self.includes(*s))
    }
}

/// Why the conversation ended early.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Init failed and said so.
    #[error("{0}")]
    Init(String),
    #[error("the other side ended before the step {0:?}")]
    Gone(Step),
    #[error("step {got} came where {expected:?} is due")]
    OutOfOrder { expected: Step, got: u8 },
    #[error("step {0:?} came without its descriptor")]
    NoDescriptor(Step),
    #[error("step {step:?} announced {announced} descriptor(s) and {got} came")]
    Descriptors { step: Step, announced: u8, got: usize },
    #[error("step {0:?} is not due")]
    NotDue(Step),
    #[error("handshake socket: {0}")]
    Socket(#[from] Errno),
}

/// A socket whose other end died with messages unread is reset, or broken: the death is the news.
fn gone(error: HandshakeError, step: Step) -> HandshakeError {
    match error {
        HandshakeError::Socket(Errno::CONNRESET | Errno::PIPE) => HandshakeError::Gone(step),
        other => other,
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    script: Script,
    last: Option<Step>,
}

impl Channel {
    /// Both ends, parent's first.
    pub fn pair(script: Script) -> Result<(Self, Self), HandshakeError> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let end = |socket| Self { socket, script, last: None };
        Ok((end(a), end(b)))
    }

    /// Checks that `step` is the one due now and makes it the last one done. A step outside the script is no step:
    /// false, and nothing is to be sent or awaited.
    fn advance(&mut self, step: Step) -> Result<bool, HandshakeError> {
        if !self.script.includes(step) {
            return Ok(false);
        }
        if self.script.after(self.last) != Some(step) {
            return Err(HandshakeError::NotDue(step));
        }
        self.last = Some(step);
        Ok(true)
    }

    /// Sends a step, if it is in the script.
    pub fn send(&mut self, step: Step, fd: Option<BorrowedFd<'_>>) -> Result<(), HandshakeError> {
        if self.advance(step)? {
            self.transmit(&[step as u8], fd.as_slice()).or_else(|e| self.last_word(e, step))?;
        }
        Ok(())
    }

    /// Sends a step with up to [`MAX_FDS`] descriptors and their number, if it is in the script.
    pub fn send_fds(&mut self, step: Step, fds: &[BorrowedFd<'_>]) -> Result<(), HandshakeError> {
        if self.advance(step)? {
            let announced = u8::try_from(fds.len()).map_err(|_| Errno::TOOBIG)?;
            self.transmit(&[step as u8, announced], fds).or_else(|e| self.last_word(e, step))?;
        }
        Ok(())
    }

    /// Awaits a step without a descriptor, if it is in the script.
    pub fn expect(&mut self, step: Step) -> Result<(), HandshakeError> {
        if self.advance(step)? {
            self.receive(step)?;
        }
        Ok(())
    }

    /// Awaits a step that carries a descriptor; None if it is not in the script.
    pub fn expect_fd(&mut self, step: Step) -> Result<Option<OwnedFd>, HandshakeError> {
        if !self.advance(step)? {
            return Ok(None);
        }
        self.receive(step)?.pop().ok_or(HandshakeError::NoDescriptor(step)).map(Some)
    }

    /// Awaits a step that carries any number of descriptors, all of those that its sender has announced; None if it is
    /// not in the script.
    pub fn expect_fds(&mut self, step: Step) -> Result<Option<Vec<OwnedFd>>, HandshakeError> {
        if !self.advance(step)? {
            return Ok(None);
        }
        let (message, fds) = self.receive_message(step)?;
        match message[..] {
            [first, announced] if first == step as u8 => match fds.len() == usize::from(announced) {
                true => Ok(Some(fds)),
                false => Err(HandshakeError::Descriptors { step, announced, got: fds.len() }),
            },
            _ => Err(failure(step, &message)),
        }
    }

    /// Init's last word: what failed. May come at any time.
    pub fn fail(&self, text: &str) -> Result<(), HandshakeError> {
        let mut message = vec![FAILED];
        let mut end = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        message.extend_from_slice(text.as_bytes().get(..end).unwrap_or_default());
        self.transmit(&message, &[])
    }

    /// After Go: waits until init has become the program (Ok) or has failed to.
    pub fn executed(self) -> Result<(), HandshakeError> {
        match self.receive_any()? {
            None => Ok(()),
            Some((message, _)) => Err(failure(Step::Go, &message)),
        }
    }

    fn transmit(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), HandshakeError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if fds.len() > MAX_FDS || !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::TOOBIG.into());
        }
        rustix::io::retry_on_intr(|| {
            sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// What the other side has said before it ended, now that nothing more reaches it.
    fn last_word(&self, error: HandshakeError, step: Step) -> Result<(), HandshakeError> {
        match gone(error, step) {
            HandshakeError::Gone(step) => self.receive(step).and(Err(HandshakeError::Gone(step))),
            error => Err(error),
        }
    }

    fn receive(&self, step: Step) -> Result<Vec<OwnedFd>, HandshakeError> {
        let (message, fds) = self.receive_message(step)?;
        if message == [step as u8] { Ok(fds) } else { Err(failure(step, &message)) }
    }

    fn receive_message(&self, step: Step) -> Result<(Vec<u8>, Vec<OwnedFd>), HandshakeError> {
        self.receive_any().map_err(|e| gone(e, step))?.ok_or(HandshakeError::Gone(step))
    }

    fn receive_any(&self) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>, HandshakeError> {
        let mut bytes = vec![0u8; MAX_TEXT + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut receive = || {
            rustix::io::retry_on_intr(|| {
                let bytes = &mut [IoSliceMut::new(&mut bytes)];
                recvmsg(&self.socket, bytes, &mut control, RecvFlags::CMSG_CLOEXEC)
            })
        };
        let got = match receive() {
            // that the other side has left messages unread is said first, and once: what it sent comes after
            Err(Errno::CONNRESET) => receive(),
            other => other,
        }?;
        let mut passed = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                passed.extend(fds);
            }
        }
        // those that came go unused: with the others missing nobody knows what is what
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Errno::MFILE.into());
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        bytes.truncate(got.bytes);
        Ok(Some((bytes, passed)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failure(expected: Step, message: &[u8]) -> HandshakeError {
    match message.split_first() {
        Some((&FAILED, text)) => HandshakeError::Init(String::from_utf8_lossy(text).into_owned()),
        Some((&got, _)) => HandshakeError::OutOfOrder { expected, got },
        None => HandshakeError::Gone(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Script = Script {
        maps_ids: true,
        places: true,
        runtime_hooks: true,
        serves_terminal: true,
        seccomp_listener: true,
    };

    #[test]
    fn the_whole_script_runs_in_order() {
        let (mut parent, mut init) = Channel::pair(ALL).unwrap();
        parent.send(Step::Mapped, None).unwrap();
        init.expect(Step::Mapped).unwrap();
        let files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        parent.send_fds(Step::Placed, &[files[0].as_fd(), files[1].as_fd()]).unwrap();
        assert_eq!(init.expect_fds(Step::Placed).unwrap().unwrap().len(), 2);
        init.send(Step::Mounted, None).unwrap();
        parent.expect(Step::Mounted).unwrap();
        parent.send(Step::HooksDone, None).unwrap();
        init.expect(Step::HooksDone).unwrap();
        let file = tempfile::tempfile().unwrap();
        init.send(Step::Terminal, Some(file.as_fd())).unwrap();
        assert!(parent.expect_fd(Step::Terminal).unwrap().is_some());
        init.send(Step::Listener, Some(file.as_fd())).unwrap();
        assert!(parent.expect_fd(Step::Listener).unwrap().is_some());
        init.send(Step::Ready, None).unwrap();
        parent.expect(Step::Ready).unwrap();
        parent.send(Step::Go, None).unwrap();
        init.expect(Step::Go).unwrap();
        drop(init);
        parent.executed().unwrap();
    }

    #[test]
    fn steps_outside_the_script_are_silent() {
        let (mut parent, mut init) = Channel::pair(Script::default()).unwrap();
        parent.send(Step::Mapped, None).unwrap();
        init.expect(Step::Mapped).unwrap();
        init.send(Step::Mounted, None).unwrap();
        assert!(parent.expect_fd(Step::Terminal).unwrap().is_none());
        init.send(Step::Ready, None).unwrap();
        parent.expect(Step::Ready).unwrap();
    }

    #[test]
    fn a_step_out_of_turn_is_refused_by_the_sender() {
        let (_parent, mut init) = Channel::pair(ALL).unwrap();
        assert!(matches!(init.send(Step::Ready, None), Err(HandshakeError::NotDue(Step::Ready))));
    }

    #[test]
    fn a_step_out_of_turn_is_refused_by_the_receiver() {
        let (mut parent, init) = Channel::pair(Script::default()).unwrap();
        init.transmit(&[Step::Go as u8], &[]).unwrap();
        assert!(matches!(parent.expect(Step::Ready), Err(HandshakeError::OutOfOrder { got: 8, .. })));
    }

    #[test]
    fn more_descriptors_than_a_step_carries_are_refused() {
        let (mut parent, _init) = Channel::pair(Script { places: true, ..Script::default() }).unwrap();
        let file = tempfile::tempfile().unwrap();
        let error = parent.send_fds(Step::Placed, &[file.as_fd(); MAX_FDS + 1]).unwrap_err();
        assert!(matches!(error, HandshakeError::Socket(Errno::TOOBIG)), "{error}");
    }

    #[test]
    fn fewer_descriptors_than_announced_are_an_error() {
        let (parent, mut init) = Channel::pair(Script { places: true, ..Script::default() }).unwrap();
        let file = tempfile::tempfile().unwrap();
        parent.transmit(&[Step::Placed as u8, 3], &[file.as_fd(); 2]).unwrap();
        let error = init.expect_fds(Step::Placed).unwrap_err();
        assert_eq!(error.to_string(), "step Placed announced 3 descriptor(s) and 2 came");
    }

    /// Lowers a limit of the whole process: a process of its own, which is this program with this test alone.
    #[test]
    fn descriptors_for_which_there_is_no_room_are_an_error() {
        const ALONE: &str = "RUNW_TEST_ALONE";
        let name = "handshake::tests::descriptors_for_which_there_is_no_room_are_an_error";
        if std::env::var_os(ALONE).is_none() {
            let alone = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name, "--nocapture"])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&alone.stdout);
            assert!(alone.status.success() && text.contains("1 passed"), "{alone:?}");
            return;
        }
        let (mut parent, mut init) = Channel::pair(Script { places: true, ..Script::default() }).unwrap();
        let file = tempfile::tempfile().unwrap();
        parent.send_fds(Step::Placed, &[file.as_fd(); 3]).unwrap();
        // the lowest that is free, and none above it
        let free = std::os::fd::AsRawFd::as_raw_fd(&file.try_clone().unwrap()) as u64;
        let limit = rustix::process::Rlimit { current: Some(free + 1), maximum: Some(free + 1) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let error = init.expect_fds(Step::Placed).unwrap_err();
        assert!(matches!(error, HandshakeError::Socket(Errno::MFILE)), "{error}");
        assert!(file.try_clone().is_ok(), "what came is closed again");
    }

    #[test]
    fn a_failure_carries_its_text_at_any_step() {
        let (mut parent, init) = Channel::pair(Script::default()).unwrap();
        init.fail("mounting /proc: no").unwrap();
        assert!(
            matches!(parent.expect(Step::Ready), Err(HandshakeError::Init(t)) if t == "mounting /proc: no")
        );
    }

    #[test]
    fn a_failure_is_heard_whatever_the_other_side_has_not_read() {
        let places = Script { places: true, ..Script::default() };
        for sent_before in [true, false] {
            let (mut parent, init) = Channel::pair(places).unwrap();
            if sent_before {
                parent.send(Step::Placed, None).unwrap();
            }
            init.fail("mounting /dev: no").unwrap();
            drop(init);
            let heard =
                if sent_before { parent.expect(Step::Ready) } else { parent.send(Step::Placed, None) };
            assert!(
                matches!(&heard, Err(HandshakeError::Init(t)) if t == "mounting /dev: no"),
                "{sent_before}: {heard:?}"
            );
        }
    }

    #[test]
    fn a_long_failure_is_cut_at_a_character() {
        let (mut parent, init) = Channel::pair(Script::default()).unwrap();
        init.fail(&"ä".repeat(MAX_TEXT)).unwrap();
        let Err(HandshakeError::Init(text)) = parent.expect(Step::Ready) else { panic!("no failure") };
        assert_eq!(text.len(), MAX_TEXT);
    }

    #[test]
    fn a_dead_init_is_named_by_the_step_that_is_missing() {
        let (mut parent, init) = Channel::pair(Script::default()).unwrap();
        drop(init);
        assert!(matches!(parent.expect(Step::Ready), Err(HandshakeError::Gone(Step::Ready))));
    }

    #[test]
    fn a_descriptor_that_is_missing_is_an_error() {
        let (mut parent, init) =
            Channel::pair(Script { serves_terminal: true, ..Script::default() }).unwrap();
        init.transmit(&[Step::Terminal as u8], &[]).unwrap();
        assert!(matches!(
            parent.expect_fd(Step::Terminal),
            Err(HandshakeError::NoDescriptor(Step::Terminal))
        ));
    }
}
