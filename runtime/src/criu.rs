//! CRIU as a worker of ours (`criu swrk`): one protobuf message a packet over a socket (criu's images/rpc.proto).

mod choices;
mod version;
mod wire;

pub use choices::Choices;
pub use version::Version;
pub use wire::Message;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
    recvmsg, send, socketpair,
};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use wharf_sys::inherit::Place;
use wire::{Field, fields};

/// Types of requests and answers (enum criu_req_type).
pub const DUMP: u64 = 1;
pub const RESTORE: u64 = 2;
pub const PRE_DUMP: u64 = 4;
const NOTIFY: u64 = 6;
const FEATURE_CHECK: u64 = 9;
const VERSION: u64 = 10;
/// The longest answer.
const MAX_ANSWER: usize = 40 << 10;
/// The worker's end of the socket.
const WORKER_FD: i32 = 3;
/// The first of the descriptors that a worker gets beside it.
pub const FIRST_EXTRA_FD: i32 = 4;

#[derive(Debug, thiserror::Error)]
pub enum CriuError {
    #[error("running criu: {0}")]
    Start(io::Error),
    #[error("talking to criu: {0}")]
    Socket(io::Error),
    #[error("criu ended without an answer")]
    Gone,
    #[error("criu's answer is not in its protocol")]
    Malformed,
    #[error("criu failed: type {} errno {errno}{text}", name(*.kind))]
    Failed { kind: u64, errno: u64, text: String },
    #[error("criu failed: {0}")]
    Status(std::process::ExitStatus),
    #[error("CRIU version check failed: {0}")]
    VersionCheck(Box<CriuError>),
    #[error("CRIU version {found} must be {least} or higher")]
    TooOld { found: Version, least: Version },
    #[error("CRIU feature check failed: {0}")]
    FeatureCheck(Box<CriuError>),
    #[error("criu is missing features: [{0}]")]
    Missing(&'static str),
}

/// The name of a request's type, as CRIU's callers show it.
fn name(kind: u64) -> String {
    let names = ["EMPTY", "DUMP", "RESTORE", "CHECK", "PRE_DUMP", "PAGE_SERVER", "NOTIFY", "CPUINFO_DUMP"];
    let more = ["CPUINFO_CHECK", "FEATURE_CHECK", "VERSION"];
    let known = usize::try_from(kind).ok().and_then(|k| names.iter().chain(&more).nth(k));
    known.map_or_else(|| kind.to_string(), |name| (*name).to_owned())
}

/// A point at which CRIU stops, so that its caller may act.
#[derive(Debug)]
pub struct Notice {
    /// Such as `setup-namespaces`.
    pub script: String,
    /// Of the first process, where there is one.
    pub pid: i32,
    /// The master of a terminal (`orphan-pts-master`).
    pub fd: Option<OwnedFd>,
}

/// What the worker says.
#[derive(Debug, Default)]
struct Answer {
    kind: u64,
    success: bool,
    errno: u64,
    text: String,
    script: String,
    pid: i32,
    mem_track: bool,
    lazy_pages: bool,
    version: Option<Version>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut answer = Self::default();
        for (number, field) in fields(bytes)? {
            match number {
                1 => answer.kind = field.number()?,
                2 => answer.success = field.number()? != 0,
                5 => answer.notice(field)?,
                7 => answer.errno = field.number()?,
                8 => answer.features(field)?,
                9 => answer.text = String::from_utf8_lossy(field.bytes()?).into_owned(),
                10 => answer.version = Some(Version::parse(field.bytes()?)?),
                _ => {}
            }
        }
        Some(answer)
    }

    fn notice(&mut self, field: Field<'_>) -> Option<()> {
        for (number, field) in fields(field.bytes()?)? {
            match number {
                1 => self.script = String::from_utf8_lossy(field.bytes()?).into_owned(),
                2 => self.pid = i32::try_from(field.number()?).ok()?,
                _ => {}
            }
        }
        Some(())
    }

    fn features(&mut self, field: Field<'_>) -> Option<()> {
        for (number, field) in fields(field.bytes()?)? {
            match number {
                1 => self.mem_track = field.number()? != 0,
                2 => self.lazy_pages = field.number()? != 0,
                _ => {}
            }
        }
        Some(())
    }
}

/// The version of the host's CRIU.
pub fn version() -> Result<Version, CriuError> {
    let asked = Worker::start(Streams::None).and_then(|w| {
        let mut request = Message::default();
        request.number(1, VERSION);
        w.serve(VERSION, &request, |_| Ok::<(), CriuError>(()))?.version.ok_or(CriuError::Malformed)
    });
    asked.map_err(|e| CriuError::VersionCheck(Box::new(e)))
}

/// Something that not every kernel can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    MemTrack,
    LazyPages,
}

/// Refuses what CRIU cannot do on this host.
pub fn require(feature: Feature) -> Result<(), CriuError> {
    let number = match feature {
        Feature::MemTrack => 1,
        Feature::LazyPages => 2,
    };
    let mut request = Message::default();
    request.number(1, FEATURE_CHECK).message(5, Message::default().flag(number, true));
    let answer = Worker::start(Streams::None)
        .and_then(|w| w.serve(FEATURE_CHECK, &request, |_| Ok::<(), CriuError>(())))
        .map_err(|e| CriuError::FeatureCheck(Box::new(e)))?;
    match feature {
        Feature::MemTrack if !answer.mem_track => Err(CriuError::Missing("MemTrack")),
        Feature::LazyPages if !answer.lazy_pages => Err(CriuError::Missing("LazyPages")),
        _ => Ok(()),
    }
}

/// The standard streams of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Nothing to read; what it writes comes out where ours does.
    None,
    /// Ours, for the processes that it restores.
    Ours,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    socket: OwnedFd,
}

impl Worker {
    /// Starts one for something that leaves nothing behind.
    pub fn start(streams: Streams) -> Result<Self, CriuError> {
        Self::start_in(streams, Vec::new(), Place::default())
    }

    /// Starts one, for what is then restored from there. It gets `extra` as descriptors from [`FIRST_EXTRA_FD`] on.
    pub fn start_in(streams: Streams, extra: Vec<OwnedFd>, place: Place) -> Result<Self, CriuError> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| CriuError::Socket(e.into()))?;
        let mut command = Command::new("criu");
        command.args(["swrk", &WORKER_FD.to_string()]);
        if streams == Streams::None {
            command.stdin(Stdio::null());
        }
        let mut given = vec![(theirs, WORKER_FD)];
        given.extend(extra.into_iter().zip(FIRST_EXTRA_FD..));
        wharf_sys::inherit::inherit(&mut command, given).map_err(CriuError::Start)?;
        wharf_sys::inherit::place(&mut command, place);
        let child = command.spawn().map_err(CriuError::Start)?;
        // with `command` go the parent's copies of the worker's end: with them open its death would go unnoticed
        Ok(Self { child, socket: ours })
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Has `options` (criu_opts) done.
    pub fn run<E: From<CriuError>>(
        self,
        kind: u64,
        options: &Message,
        notice: impl FnMut(Notice) -> Result<(), E>,
    ) -> Result<(), E> {
        self.serve(kind, Message::default().number(1, kind).message(2, options), notice).map(drop)
    }

    /// Sends a request and sees to what comes until it is answered.
    fn serve<E: From<CriuError>>(
        mut self,
        kind: u64,
        request: &Message,
        notice: impl FnMut(Notice) -> Result<(), E>,
    ) -> Result<Answer, E> {
        let served = converse(&self.socket, kind, request, notice);
        drop(self.socket);
        let status = self.child.wait().map_err(CriuError::Socket)?;
        let answer = served?;
        // after a pre-dump the worker waits for the dump, and ends with an error when none comes
        if status.success() || kind == PRE_DUMP { Ok(answer) } else { Err(CriuError::Status(status).into()) }
    }
}

fn converse<E: From<CriuError>>(
    socket: &OwnedFd,
    kind: u64,
    request: &Message,
    mut notice: impl FnMut(Notice) -> Result<(), E>,
) -> Result<Answer, E> {
    say(socket, request)?;
    // what went wrong at a stop: CRIU is told and takes back what it has done before that is returned
    let mut failed = None;
    loop {
        let (answer, fd) = match hear(socket) {
            Ok(heard) => heard,
            Err(e) => return Err(failed.unwrap_or_else(|| e.into())),
        };
        if answer.kind == NOTIFY && answer.success {
            let stop = Notice { script: answer.script, pid: answer.pid, fd };
            if failed.is_none() {
                failed = notice(stop).err();
            }
            let told = say(socket, Message::default().number(1, NOTIFY).flag(3, failed.is_none()));
            if let Err(e) = told {
                return Err(failed.unwrap_or_else(|| e.into()));
            }
            continue;
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        if !answer.success {
            let Answer { kind, errno, text, .. } = answer;
            let text = text.trim_end();
            let text = if text.is_empty() { String::new() } else { format!(": {text}") };
            return Err(CriuError::Failed { kind, errno, text }.into());
        }
        if answer.kind != kind {
            return Err(CriuError::Malformed.into());
        }
        return Ok(answer);
    }
}

fn say(socket: &OwnedFd, message: &Message) -> Result<(), CriuError> {
    rustix::io::retry_on_intr(|| send(socket, message.as_bytes(), SendFlags::NOSIGNAL))
        .map(drop)
        .map_err(|e| CriuError::Socket(e.into()))
}

fn hear(socket: &OwnedFd) -> Result<(Answer, Option<OwnedFd>), CriuError> {
    let mut buffer = vec![0u8; MAX_ANSWER];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (got, fd) = loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => {
                let fd = control.drain().find_map(|part| match part {
                    RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                    _ => None,
                });
                break (message.bytes, fd);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Err(CriuError::Gone),
            Err(e) => return Err(CriuError::Socket(e.into())),
        }
    };
    if got == 0 {
        return Err(CriuError::Gone);
    }
    let answer = buffer.get(..got).and_then(Answer::parse).ok_or(CriuError::Malformed)?;
    Ok((answer, fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    use rustix::net::recv;

    fn worker(answers: Vec<Message>) -> (Result<(), CriuError>, Vec<Vec<u8>>) {
        worker_with(answers, |_| Ok(()))
    }

    fn worker_with(
        answers: Vec<Message>,
        notice: impl FnMut(Notice) -> Result<(), CriuError>,
    ) -> (Result<(), CriuError>, Vec<Vec<u8>>) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let other = std::thread::spawn(move || {
            let mut said = Vec::new();
            let mut buffer = [0u8; 1024];
            for answer in answers {
                let (n, _) = recv(&theirs, &mut buffer, RecvFlags::empty()).unwrap();
                said.push(buffer[..n].to_vec());
                send(&theirs, answer.as_bytes(), SendFlags::NOSIGNAL).unwrap();
            }
            said
        });
        let mut request = Message::default();
        request.number(1, DUMP).message(2, Message::default().number(2, 77));
        let result = converse(&ours, DUMP, &request, notice);
        drop(ours);
        (result.map(drop), other.join().unwrap())
    }

    fn answer(kind: u64, success: bool) -> Message {
        let mut m = Message::default();
        m.number(1, kind).flag(2, success);
        m
    }

    #[test]
    fn notifications_are_acknowledged_until_the_answer_comes() {
        let (result, said) = worker(vec![answer(NOTIFY, true), answer(DUMP, true)]);
        result.unwrap();
        assert_eq!(said, [vec![8, 1, 18, 2, 16, 77], vec![8, 6, 24, 1]]);
    }

    #[test]
    fn a_stop_that_cannot_be_served_is_told_and_is_the_error() {
        let mut stop = answer(NOTIFY, true);
        stop.message(5, Message::default().text(1, "post-restore").number(2, 4242));
        let mut seen = Vec::new();
        // CRIU goes through its later stops on its way out
        let (result, said) = worker_with(vec![stop, answer(NOTIFY, true), answer(DUMP, false)], |notice| {
            seen.push((notice.script, notice.pid));
            Err(CriuError::Gone)
        });
        assert!(matches!(result, Err(CriuError::Gone)));
        assert_eq!(seen, [("post-restore".to_owned(), 4242)]);
        assert_eq!(said[1..], [vec![8, 6, 24, 0], vec![8, 6, 24, 0]]);
    }

    #[test]
    fn a_failure_says_what_criu_says() {
        let mut failure = answer(DUMP, false);
        failure.number(7, 95).text(9, "no vdso");
        let (result, _) = worker(vec![failure]);
        assert_eq!(result.unwrap_err().to_string(), "criu failed: type DUMP errno 95: no vdso");
    }

    #[test]
    fn a_worker_that_dies_or_babbles_is_an_error() {
        assert!(matches!(worker(vec![]).0, Err(CriuError::Gone | CriuError::Socket(_))));
        let mut babble = Message::default();
        babble.text(1, "x");
        assert!(matches!(worker(vec![babble]).0, Err(CriuError::Malformed)));
        assert!(matches!(worker(vec![answer(PRE_DUMP, true)]).0, Err(CriuError::Malformed)));
    }
}
