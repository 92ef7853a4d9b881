//! How the program is invoked: `[flags] start|delete`, `-v`, `-info`.

mod delete;
mod flags;
mod info;
mod serve;
mod socket;
mod start;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::userns;

pub use flags::{Action, FlagError, Flags};

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line.
    #[error(transparent)]
    Flags(#[from] FlagError),
    /// What the daemon sent on stdin.
    #[error("stdin: {0}")]
    Input(String),
    /// The bundle.
    #[error("bundle {}: {act}: {source}", path.display())]
    Bundle {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The shim's socket.
    #[error("shim socket {}: {act}: {source}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The runtime that the options name, or the default.
    #[error("failed to look up the path of {binary:?}: executable file not found in $PATH")]
    Runtime {
        /// As it was named.
        binary: PathBuf,
    },
    /// The server process, or something it needs.
    #[error("shim server: {act}: {source}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The cgroup that the shim was to join.
    #[error("shim cgroup {path}: {reason}")]
    Cgroup {
        /// As the options name it.
        path: String,
        /// Why not.
        reason: String,
    },
}

/// The symbolic link in a bundle that tells later invocations the folder of shim sockets.
const SOCKET_DIR_LINK: &str = "s";

fn socket_dir(bundle: &Path) -> Option<PathBuf> {
    std::fs::read_link(bundle.join(SOCKET_DIR_LINK)).ok().filter(|dir| dir.is_absolute())
}

/// Runs the program.
pub fn run() -> ExitCode {
    if std::env::args_os().skip(1).eq([userns::HOLD]) {
        return if userns::hold().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let done = Flags::parse(std::env::args_os().skip(1)).map_err(CommandError::from).and_then(|flags| {
        match flags.action {
            Action::Version => write_out(info::version().as_bytes()),
            Action::Info => write_out(&info::info()?),
            Action::Start => start::start(&flags, write_out),
            Action::Delete => write_out(&delete::delete(&flags)?),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = write!(io::stderr(), "containerd-shim-wharf-v2: {e}");
            ExitCode::FAILURE
        }
    }
}

fn write_out(bytes: &[u8]) -> Result<(), CommandError> {
    let written = io::stdout().write_all(bytes).and_then(|()| io::stdout().flush());
    written.map_err(|source| CommandError::Server { act: "answer", source })
}
