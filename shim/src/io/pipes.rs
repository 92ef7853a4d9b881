//! The descriptors a process gets and the ends the shim keeps.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

use crate::runtime::ChildStdio;

/// The shim's ends.
#[derive(Debug, Default)]
pub struct Sources {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// A process's pipes, before it is started.
#[derive(Debug, Default)]
pub struct Pipes {
    /// For the process.
    pub child: ChildStdio,
    /// For [`super::Io::connect`].
    pub sources: Sources,
}

impl Pipes {
    /// Makes a pipe for each stream that is asked for (stdin, stdout, stderr), owned by `owner`.
    ///
    /// # Errors
    /// If one cannot be made.
    pub fn new(streams: [bool; 3], owner: (u32, u32)) -> io::Result<Pipes> {
        let mut pipes = Pipes::default();
        let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            if owner != (0, 0) {
                let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
                rustix::fs::fchown(&read, Some(uid), Some(gid))?;
                rustix::fs::fchown(&write, Some(uid), Some(gid))?;
            }
            Ok((read, write))
        };
        if streams[0] {
            let (read, write) = pipe()?;
            nonblocking(&write)?;
            (pipes.child.stdin, pipes.sources.stdin) = (Some(read), Some(write));
        }
        if streams[1] {
            let (read, write) = pipe()?;
            nonblocking(&read)?;
            (pipes.child.stdout, pipes.sources.stdout) = (Some(write), Some(read));
        }
        if streams[2] {
            let (read, write) = pipe()?;
            nonblocking(&read)?;
            (pipes.child.stderr, pipes.sources.stderr) = (Some(write), Some(read));
        }
        Ok(pipes)
    }
}

fn nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// A terminal's master.
#[derive(Debug, Clone)]
pub struct Console(Arc<OwnedFd>);

impl Console {
    /// Sets the terminal's size in characters.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(&*self.0, size)?)
    }

    /// The master for [`super::Io::connect`]: read, and written too if the process has a stdin.
    ///
    /// # Errors
    /// If it cannot be duplicated.
    pub fn sources(&self, stdin: bool) -> io::Result<Sources> {
        nonblocking(&*self.0)?;
        // epoll takes an open descriptor once: reading and writing get one each
        let stdin = if stdin { Some(self.0.try_clone()?) } else { None };
        Ok(Sources { stdin, stdout: Some(self.0.try_clone()?), stderr: None })
    }
}

/// The socket on which a runtime delivers a terminal's master.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: OwnedFd,
    /// Its folder, held so that a long path can be named through it.
    folder: OwnedFd,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Makes one in `bundle` for the process called `name`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(bundle: &Path, name: &str) -> io::Result<ConsoleSocket> {
        let folder = rustix::fs::open(
            bundle,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        // a name of its own length bound, whatever the id's
        let mut short: String = name.chars().take(40).collect();
        short.insert_str(0, "pty-");
        let path = bundle.join(&short);
        let _ = std::fs::remove_file(&path);
        let listener = listen(&folder, &short)?;
        Ok(ConsoleSocket { listener, folder, path })
    }

    /// The path to give the runtime. A bundle's path may be too long for a socket address; then it is named
    /// through this process's descriptor.
    pub fn path(&self) -> PathBuf {
        if self.path.as_os_str().len() <= 107 {
            return self.path.clone();
        }
        let name = self.path.file_name().unwrap_or_default();
        Path::new("/proc")
            .join(std::process::id().to_string())
            .join(format!("fd/{}", self.folder.as_raw_fd()))
            .join(name)
    }

    /// Takes the master that the runtime has sent. Call it after the runtime has ended: it does not wait
    /// for one that never came.
    ///
    /// # Errors
    /// If none came, or what came is none.
    pub fn receive(self) -> io::Result<Console> {
        let deadline = Instant::now() + Duration::from_secs(10);
        wait_readable(&self.listener, deadline)?;
        let connection = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC)?;
        wait_readable(&connection, deadline)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        // the message's bytes are the terminal's name
        let mut name = [0; 4096];
        let mut bytes = [io::IoSliceMut::new(&mut name)];
        rustix::net::recvmsg(&connection, &mut bytes, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
        let mut fds = rights.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let master = fds.next().and_then(|mut fds| fds.next());
        let master = master.ok_or_else(|| io::Error::other("the runtime sent no terminal"))?;
        if !rustix::termios::isatty(&master) {
            return Err(io::Error::other("what the runtime sent is no terminal"));
        }
        Ok(Console(Arc::new(master)))
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn wait_readable(fd: &OwnedFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the runtime sent no terminal")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Listens on a socket called `name` in `folder`, mode 0600 from its first moment.
pub(super) fn listen(folder: &OwnedFd, name: impl AsRef<std::ffi::OsStr>) -> io::Result<OwnedFd> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_ref().as_bytes());
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // bind gives the file the socket's mode
    rustix::fs::fchmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path[..])?)?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}
