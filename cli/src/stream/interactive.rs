//! An attached session: this process's standard streams joined to a hijacked connection.
//!
//! Two plain threads copy, one a direction, so that a terminal that does not drain blocks neither signals nor
//! resizes. The framing comes from the answer's content type, or from whether the container has a terminal;
//! it is never guessed from the data.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::demux::{Demux, Output};
use super::write;
use crate::terminal::{self, keys};
use crate::transport::{ApiVersion, Hijacked};

const BUFFER: usize = 64 << 10;
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// What is joined.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) stdin: bool,
    /// Whether either output is wanted; without one the session ends with the input.
    pub(crate) output: bool,
    /// The container has a terminal: raw bytes, raw mode here.
    pub(crate) tty: bool,
    /// As the user or the configuration spelled them; empty for the default.
    pub(crate) detach_keys: String,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The daemon closed the stream, or the input ended where no output is wanted.
    Closed,
    /// The user pressed the detach keys.
    Detached,
}

/// A session that is running.
pub(crate) struct Session {
    ended: oneshot::Receiver<io::Result<()>>,
    detached: oneshot::Receiver<()>,
}

/// Starts copying. The terminal becomes raw if the container has one, and is restored when the session ends.
pub(crate) fn begin(hijacked: Hijacked, plan: &Plan, version: ApiVersion) -> io::Result<Session> {
    let multiplexed = is_multiplexed(hijacked.content_type.as_deref(), plan.tty, version);
    let socket = Arc::new(hijacked.socket.into_blocking()?);
    let mut watcher = keys::Watcher::new(Vec::new());
    if plan.stdin && plan.tty {
        let spelled = plan.detach_keys.as_str();
        let sequence = if spelled.is_empty() { Ok(keys::DEFAULT.to_vec()) } else { keys::parse(spelled) };
        watcher = keys::Watcher::new(sequence.map_err(io::Error::other)?);
        terminal::make_raw()?;
    }
    let (ended_sender, ended) = oneshot::channel();
    let (detached_sender, detached) = oneshot::channel();
    let mut ended_sender = Some(ended_sender);
    if plan.output {
        let sender = ended_sender.take();
        let (early, socket) = (hijacked.early, Arc::clone(&socket));
        std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            let result = copy_output(&socket, early, multiplexed);
            // what is printed next must find a normal terminal
            terminal::restore();
            if let Some(sender) = sender {
                // nobody waits any more if the session was detached
                let _ = sender.send(result);
            }
        })?;
    }
    let (stdin, tty) = (plan.stdin, plan.tty);
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        let detached = stdin && copy_input(&socket, watcher);
        if tty {
            terminal::restore();
        }
        if detached {
            let _ = detached_sender.send(());
            return;
        }
        // the process sees the end of its input; its output goes on
        let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Write);
        if let Some(sender) = ended_sender {
            let _ = sender.send(Ok(()));
        }
    })?;
    Ok(Session { ended, detached })
}

fn is_multiplexed(content_type: Option<&str>, tty: bool, version: ApiVersion) -> bool {
    match content_type {
        Some(kind) if kind.starts_with(MULTIPLEXED) => true,
        // before API 1.42 the raw type stood for both
        Some(_) if version.at_least(42) => false,
        _ => !tty,
    }
}

impl Session {
    /// Waits for the end. Errors: reading the stream, or writing to this process's outputs.
    pub(crate) async fn end(&mut self) -> io::Result<End> {
        let detached = async {
            if (&mut self.detached).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            ended = &mut self.ended => match ended {
                Ok(result) => result.map(|()| End::Closed),
                Err(_) => Ok(End::Closed),
            },
            () = detached => Ok(End::Detached),
        }
    }
}

fn copy_output(socket: &OwnedFd, early: Vec<u8>, multiplexed: bool) -> io::Result<()> {
    let mut demux = Demux::default();
    let mut show = |data: &[u8]| {
        if !multiplexed {
            return write::stdout(data);
        }
        demux.push(data, |to, data| match to {
            Output::Stdout => write::stdout(data),
            Output::Stderr => write::stderr(data),
        })
    };
    show(&early)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match write::read(socket.as_fd(), &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => show(&buffer[..read])?,
            // a daemon that was killed resets what it had not handed over: the stream is over all the same
            Err(reset) if reset.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(bad) => return Err(bad),
        }
    }
}

/// True if the detach keys were pressed.
fn copy_input(socket: &OwnedFd, mut watcher: keys::Watcher) -> bool {
    let mut buffer = vec![0; BUFFER];
    loop {
        // an unreadable input is an ended one; errors of the socket show on the output side
        let Ok(read @ 1..) = write::read(rustix::stdio::stdin(), &mut buffer) else { return false };
        let (data, detached) = watcher.filter(&buffer[..read]);
        if send_all(socket, &data).is_err() {
            return detached;
        }
        if detached {
            return true;
        }
    }
}

/// As a write, but without SIGPIPE where the runtime has not set that aside.
fn send_all(socket: &OwnedFd, mut data: &[u8]) -> io::Result<()> {
    use rustix::net::SendFlags;
    while !data.is_empty() {
        match rustix::net::send(socket, data, SendFlags::NOSIGNAL) {
            Ok(sent) => data = &data[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(bad) => return Err(bad.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_follows_the_content_type_and_else_the_terminal() {
        let (new, old) =
            (ApiVersion::parse("1.42").expect("version"), ApiVersion::parse("1.41").expect("version"));
        let raw = Some("application/vnd.docker.raw-stream");
        assert!(is_multiplexed(Some(MULTIPLEXED), true, new));
        assert!(!is_multiplexed(raw, false, new));
        assert!(is_multiplexed(raw, false, old));
        assert!(!is_multiplexed(raw, true, old));
        assert!(is_multiplexed(None, false, new) && !is_multiplexed(None, true, new));
    }
}
