//! CRIU as a worker of ours (`criu swrk`): one protobuf message a packet over a socket (criu's images/rpc.proto).

mod wire;

pub use wire::Message;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use wire::fields;

/// Types of requests and answers (enum criu_req_type).
pub const DUMP: u64 = 1;
pub const PRE_DUMP: u64 = 4;
const NOTIFY: u64 = 6;
/// The longest answer.
const MAX_ANSWER: usize = 40 << 10;
/// The worker's end of the socket.
const WORKER_FD: i32 = 3;

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
    #[error("criu failed: type {kind} errno {errno}{text}")]
    Failed { kind: u64, errno: u64, text: String },
    #[error("criu failed: {0}")]
    Status(std::process::ExitStatus),
}

/// What the worker says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    kind: u64,
    success: bool,
    errno: u64,
    text: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut answer = Self::default();
        for (number, field) in fields(bytes)? {
            match number {
                1 => answer.kind = field.number()?,
                2 => answer.success = field.number()? != 0,
                7 => answer.errno = field.number()?,
                9 => answer.text = String::from_utf8_lossy(field.bytes()?).into_owned(),
                _ => {}
            }
        }
        Some(answer)
    }
}

/// Has a new worker serve one request; `kind` is the request's.
pub fn serve(kind: u64, options: &Message) -> Result<(), CriuError> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| CriuError::Socket(e.into()))?;
    let mut command = Command::new("criu");
    command.args(["swrk", &WORKER_FD.to_string()]).stdin(Stdio::null());
    wharf_sys::inherit::inherit(&mut command, vec![(theirs, WORKER_FD)]).map_err(CriuError::Start)?;
    let mut worker = command.spawn().map_err(CriuError::Start)?;
    // the parent's copies of the worker's end: with them open its death would go unnoticed
    drop(command);
    let served = converse(&ours, kind, options);
    drop(ours);
    let status = worker.wait().map_err(CriuError::Socket)?;
    served?;
    // after a pre-dump the worker waits for the dump, and ends with an error when none comes
    if status.success() || kind == PRE_DUMP { Ok(()) } else { Err(CriuError::Status(status)) }
}

fn converse(socket: &OwnedFd, kind: u64, options: &Message) -> Result<(), CriuError> {
    let say = |message: &Message| {
        rustix::io::retry_on_intr(|| send(socket, message.as_bytes(), SendFlags::NOSIGNAL))
            .map_err(|e| CriuError::Socket(e.into()))
    };
    say(Message::default().number(1, kind).message(2, options))?;
    let mut buffer = vec![0u8; MAX_ANSWER];
    loop {
        let got = match rustix::io::retry_on_intr(|| recv(socket, &mut buffer, RecvFlags::empty())) {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return Err(CriuError::Gone),
            Ok((n, _)) => n,
            Err(e) => return Err(CriuError::Socket(e.into())),
        };
        let answer = buffer.get(..got).and_then(Answer::parse).ok_or(CriuError::Malformed)?;
        if !answer.success {
            let Answer { kind, errno, text, .. } = answer;
            let text = if text.is_empty() { text } else { format!(": {text}") };
            return Err(CriuError::Failed { kind, errno, text });
        }
        match answer.kind {
            // it stops at points where a caller may act; there is nothing to do at those of a dump
            NOTIFY => {
                say(Message::default().number(1, NOTIFY).flag(3, true))?;
            }
            other if other == kind => return Ok(()),
            _ => return Err(CriuError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(answers: Vec<Message>) -> (Result<(), CriuError>, Vec<Vec<u8>>) {
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
        let result = converse(&ours, DUMP, Message::default().number(2, 77));
        drop(ours);
        (result, other.join().unwrap())
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
    fn a_failure_says_what_criu_says() {
        let mut failure = answer(DUMP, false);
        failure.number(7, 95).text(9, "no vdso");
        let (result, _) = worker(vec![failure]);
        assert_eq!(result.unwrap_err().to_string(), "criu failed: type 1 errno 95: no vdso");
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
