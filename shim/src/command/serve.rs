//! The server: what lives as long as its containers.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::CommandError;
use crate::task::{Settings, Shim};
use crate::{log, ttrpc};

/// What the server needs to know.
pub(super) struct Server {
    pub listener: OwnedFd,
    pub bundle: PathBuf,
    pub debug: bool,
    pub settings: Settings,
}

/// Serves, in the process that `start` has forked, until the program ends.
pub(super) fn serve(server: Server) -> Result<(), CommandError> {
    let failed = |act| move |source| CommandError::Server { act, source };
    // the daemon waits for the end of its pipes
    silence().map_err(|e| failed("let go of the daemon's descriptors")(e.into()))?;
    wharf_sys::heap::share_arenas(1);
    log::open(&server.bundle, server.debug);
    std::panic::set_hook(Box::new(|info| log::error(format_args!("panic: {info}"))));
    // out of the daemon's session and process group
    let _ = rustix::process::setsid();
    // what loses its parent becomes this process's child
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| failed("become subreaper")(e.into()))?;
    let listener = UnixListener::from(server.listener);
    let shim = Shim::new(server.settings).map_err(failed("start"))?;
    ttrpc::serve(&listener, &shim);
    Err(failed("accept")(std::io::Error::other("the socket failed")))
}

fn silence() -> rustix::io::Result<()> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)
}
