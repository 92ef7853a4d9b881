//! The server: what lives as long as its containers.

use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::flags::Flags;
use super::{CommandError, socket_dir};
use crate::task::{Settings, Shim};
use crate::{log, ttrpc};

pub(super) fn serve(flags: &Flags) -> Result<(), CommandError> {
    let failed = |act| move |source| CommandError::Server { act, source };
    let bundle = std::env::current_dir().map_err(failed("find the bundle"))?;
    log::open(&bundle, flags.debug);
    std::panic::set_hook(Box::new(|info| log::error(format_args!("panic: {info}"))));
    // out of the daemon's session and process group
    let _ = rustix::process::setsid();
    // what loses its parent becomes this process's child
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| failed("become subreaper")(e.into()))?;
    let listener = inherited().map_err(failed("take the socket"))?;
    let settings = Settings {
        namespace: flags.namespace.clone(),
        socket_dir: socket_dir(&bundle),
        socket: flags.socket.clone(),
        events: std::env::var_os("TTRPC_ADDRESS").filter(|a| !a.is_empty()).map(PathBuf::from),
    };
    let shim = Shim::new(settings).map_err(failed("start"))?;
    ttrpc::serve(&listener, &shim);
    Err(failed("accept")(std::io::Error::other("the socket failed")))
}

/// The listening socket that `start` left as stdin; stdin itself becomes /dev/null, so that no child gets
/// the socket.
fn inherited() -> std::io::Result<UnixListener> {
    let stdin = std::io::stdin();
    let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned()?);
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(listener)
}
