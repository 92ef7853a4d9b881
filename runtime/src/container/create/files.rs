//! The files of a container that others wait at or look for.

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
