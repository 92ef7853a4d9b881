//! The attach socket: listening, and requests on their way in.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags};
use wharf_stdio::{ATTACH_VERSION, AttachEvent, AttachRequest, frame};

use super::pipes::listen;
use super::poll::{Poll, Token, Watched};

/// How long a request may take to arrive whole.
const PATIENCE: Duration = Duration::from_secs(10);

/// An attach socket before it is watched. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Socket {
    fd: Option<OwnedFd>,
    path: PathBuf,
}

impl Socket {
    /// Makes it, mode 0600, and missing folders, mode 0700. A file that is there is replaced.
    pub(super) fn new(path: &Path) -> io::Result<Socket> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let folder =
            rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let fd = listen(&folder, name)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Socket { fd: Some(fd), path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// An attach socket being watched.
#[derive(Debug)]
pub(super) struct Listener {
    fd: Watched,
    _file: Socket,
}

impl Listener {
    pub(super) fn new(mut socket: Socket, poll: &Poll, token: Token) -> Option<Listener> {
        let mut fd = Watched::new(poll, token, socket.fd.take()?);
        fd.want(Some(EventFlags::IN));
        Some(Listener { fd, _file: socket })
    }

    /// The next connection, if its peer is root or this program's own user.
    pub(super) fn accept(&self) -> Option<OwnedFd> {
        let connection =
            rustix::net::accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&connection).ok()?;
        (peer.uid.is_root() || peer.uid == rustix::process::geteuid()).then_some(connection)
    }
}

/// A connection whose request has not arrived whole.
#[derive(Debug)]
pub(super) struct Pending {
    control: Watched,
    bytes: Vec<u8>,
    client: Option<OwnedFd>,
    pub deadline: Instant,
}

/// What a pending connection has come to.
pub(super) enum Progress {
    /// More must come.
    Waiting,
    /// It is over.
    Over,
    /// The request, and the client's descriptor if one came.
    Request(Box<AttachRequest>, Option<OwnedFd>),
}

impl Pending {
    pub(super) fn new(connection: OwnedFd, poll: &Poll, token: Token) -> Pending {
        let mut control = Watched::new(poll, token, connection);
        control.want(Some(EventFlags::IN));
        Pending { control, bytes: Vec::new(), client: None, deadline: Instant::now() + PATIENCE }
    }

    /// A descriptor of the connection, beside the watched one.
    pub(super) fn control(&self) -> io::Result<OwnedFd> {
        self.control.as_fd().try_clone_to_owned()
    }

    pub(super) fn on_readable(&mut self, buffer: &mut [u8]) -> Progress {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut into = [io::IoSliceMut::new(buffer)];
        let got = match rustix::net::recvmsg(&self.control, &mut into, &mut rights, flags) {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Progress::Waiting,
            Err(_) => return Progress::Over,
        };
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    self.client.get_or_insert(fd);
                }
            }
        }
        self.bytes.extend_from_slice(&buffer[..got]);
        match frame::take::<AttachRequest>(&mut self.bytes) {
            Ok(None) if got == 0 => Progress::Over,
            Ok(None) => Progress::Waiting,
            Ok(Some(mut request)) => {
                let version = request.version;
                if version != ATTACH_VERSION {
                    self.refuse(format!("attach request version {version} is not {ATTACH_VERSION}"));
                    return Progress::Over;
                }
                // without a descriptor the connection is the client: what follows the frame is its input
                request.buffered.append(&mut self.bytes);
                Progress::Request(Box::new(request), self.client.take())
            }
            Err(e) => {
                self.refuse(e.to_string());
                Progress::Over
            }
        }
    }

    pub(super) fn refuse(&self, reason: String) {
        if let Ok(bytes) = frame::encode(&AttachEvent::Refused { reason }) {
            let _ = rustix::net::send(&self.control, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
}
