//! The files of a container that others wait at or look for.

use crate::console;
use crate::container::ContainerError;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The fifo that `start` opens. Init opens it by this descriptor only.
pub fn make_fifo(path: &Path) -> Result<OwnedFd, ContainerError> {
    let failed = || ContainerError::act::<rustix::io::Errno>(format!("making {}", path.display()));
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o622), 0)
        .map_err(failed())?;
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed())?;
    // whoever the process becomes, it has to be able to open it; the umask may have taken bits
    rustix::fs::chmodat(rustix::fs::CWD, path, Mode::from_raw_mode(0o622), rustix::fs::AtFlags::empty())
        .map_err(failed())?;
    Ok(fd)
}

/// Written beside and renamed: a watcher sees the whole number or none.
pub fn write_pid_file(path: &Path, pid: i32) -> std::io::Result<()> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, pid.to_string())?;
    std::fs::rename(&new, path)
}

/// Connects to the socket of `--pidfd-socket`, if there is one.
pub fn pidfd_receiver(path: Option<&Path>) -> Result<Option<OwnedFd>, ContainerError> {
    let Some(path) = path else { return Ok(None) };
    let socket = console::connect_path(path)
        .map_err(ContainerError::act(format!("connecting to pidfd socket {}", path.display())))?;
    Ok(Some(socket))
}

/// Sends it the pidfd with the word that runc sends.
pub fn send_pidfd(socket: Option<&OwnedFd>, pidfd: &OwnedFd, word: &str) -> Result<(), ContainerError> {
    let Some(socket) = socket else { return Ok(()) };
    console::send_fd(socket, pidfd, word.as_bytes())
        .map_err(ContainerError::act("sending the pidfd to the pidfd socket"))
}
