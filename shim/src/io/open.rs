//! Opening what a plan names, before there is a process.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use wharf_logs::{LogFile, Options};
use wharf_stdio::{LogFormat, StdinMode, StdioAddress};

use super::attach::Socket;
use super::dest::DestParts;
use super::logger::{self, Logger};
use super::plan::Plan;
use crate::reaper::Reaper;
use crate::runtime::ChildStdio;

/// Why a stream's end cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file, FIFO, socket or program.
    #[error("stdio {}: {act}: {source}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] wharf_logs::WriteError),
}

/// What was opened.
pub struct Opened {
    /// For [`super::Io::add`].
    pub parts: Parts,
    /// Which of stdin, stdout and stderr need a pipe.
    pub pipes: [bool; 3],
    /// Descriptors that go to the process as they are: a logging program's pipes.
    pub direct: ChildStdio,
    /// The logging program, to be stopped after the process.
    pub logger: Option<Logger>,
}

/// A session before the streams' thread has it.
pub struct Parts {
    pub(super) terminal: bool,
    pub(super) sink: SinkParts,
    pub(super) feed: FeedParts,
}

pub(super) enum SinkParts {
    Null,
    Forward([Option<DestParts>; 2]),
    Wharf { log: Option<Box<LogFile>>, attach: Option<Socket> },
}

pub(super) enum FeedParts {
    None,
    /// The end that is read, and one for writing that keeps it from ending until CloseIO.
    Fifo {
        read: OwnedFd,
        keep: OwnedFd,
    },
    Clients(StdinMode),
}

/// Who the streams are opened for.
pub struct Owner<'a> {
    /// The container, or the exec.
    pub id: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

/// Opens a plan's files, FIFOs and sockets, and starts a logging program.
///
/// # Errors
/// Names what could not be opened.
pub fn open(
    plan: &Plan,
    terminal: bool,
    owner: &Owner<'_>,
    reaper: &Arc<Reaper>,
) -> Result<Opened, OpenError> {
    let mut opened = Opened {
        parts: Parts { terminal, sink: SinkParts::Null, feed: FeedParts::None },
        pipes: [false; 3],
        direct: ChildStdio::default(),
        logger: None,
    };
    match plan {
        Plan::Null => {}
        Plan::Fifo { stdin, stdout, stderr } => {
            let out = |path: &Option<PathBuf>| path.as_deref().map(output).transpose();
            opened.parts.sink = SinkParts::Forward([out(stdout)?, out(stderr)?]);
            opened.parts.feed = feed(stdin.as_deref())?;
            opened.pipes = [stdin.is_some(), stdout.is_some(), stderr.is_some()];
        }
        Plan::File { path, stdin } => {
            let file = append(path).map_err(failed(path, "open"))?;
            let other = file.try_clone().map_err(failed(path, "open"))?;
            opened.parts.sink =
                SinkParts::Forward([Some(DestParts::File(file)), Some(DestParts::File(other))]);
            opened.parts.feed = feed(stdin.as_deref())?;
            opened.pipes = [stdin.is_some(), true, true];
        }
        Plan::Binary { path, args, strict } => {
            let (logger, stdout, stderr) =
                logger::start(path, args, *strict, owner, reaper).map_err(failed(path, "start"))?;
            opened.logger = Some(logger);
            if terminal {
                let nonblock = rustix::io::ioctl_fionbio(&stdout, true);
                nonblock.map_err(|e| failed(path, "start")(e.into()))?;
                opened.parts.sink = SinkParts::Forward([Some(DestParts::Pipe(stdout)), None]);
            } else {
                (opened.direct.stdout, opened.direct.stderr) = (Some(stdout), Some(stderr));
            }
        }
        Plan::Wharf(address) => {
            let attach = match &address.attach {
                Some(path) => Some(Socket::new(path).map_err(failed(path, "listen"))?),
                None => None,
            };
            opened.parts.sink = SinkParts::Wharf { log: log(address)?.map(Box::new), attach };
            opened.parts.feed = FeedParts::Clients(address.stdin);
            opened.pipes = [address.stdin != StdinMode::None, true, true];
        }
    }
    if terminal {
        opened.pipes = [false; 3];
    }
    Ok(opened)
}

fn failed<'a>(path: &'a Path, act: &'static str) -> impl Fn(io::Error) -> OpenError + 'a {
    move |source| OpenError::Path { path: path.to_owned(), act, source }
}

fn log(address: &StdioAddress) -> Result<Option<LogFile>, OpenError> {
    let format = match address.format {
        LogFormat::None => return Ok(None),
        LogFormat::JsonFile => wharf_logs::Format::JsonFile,
        LogFormat::Local => wharf_logs::Format::Local,
        LogFormat::Cri => wharf_logs::Format::Cri,
    };
    let options = Options {
        format,
        max_size: address.max_size,
        max_files: address.max_file,
        attrs: address.attrs.clone(),
    };
    Ok(Some(LogFile::open(&address.log, &options)?))
}

fn append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}

/// A FIFO for writing, or a file. A FIFO is opened for reading too: opening then does not wait for a
/// reader, and writing without one is no EPIPE.
fn output(path: &Path) -> Result<DestParts, OpenError> {
    let meta = std::fs::metadata(path).map_err(failed(path, "look at"))?;
    if meta.file_type().is_fifo() {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty());
        return fd.map(DestParts::Pipe).map_err(|e| failed(path, "open")(e.into()));
    }
    OpenOptions::new().append(true).open(path).map(DestParts::File).map_err(failed(path, "open"))
}

fn feed(stdin: Option<&Path>) -> Result<FeedParts, OpenError> {
    let Some(path) = stdin else { return Ok(FeedParts::None) };
    let open = |flags| {
        let fd = rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        fd.map_err(|e| failed(path, "open")(e.into()))
    };
    let read = open(OFlags::RDONLY)?;
    Ok(FeedParts::Fifo { read, keep: open(OFlags::WRONLY)? })
}
