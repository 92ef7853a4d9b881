//! Pseudo-terminals of containers, and the socket their master side is sent over.

use crate::rootfs::RootfsError;
use crate::rootfs::mount::{attach, clone_of};
use crate::rootfs::resolve::{Root, Target};
use rustix::fs::{FileType, OFlags, fstat, fstatfs, major};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
/// Major numbers of the slave side (Documentation/admin-guide/devices.txt).
const PTY_SLAVE_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// A new pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

impl Pty {
    /// Opens one in the container's own devpts. The slave comes from the master by ioctl, never by a path, and both are
    /// checked to be what they should: a console that is some other file would be a way out (CVE-2025-52565).
    pub fn open(root: &Root) -> Result<Self, RootfsError> {
        let path = Path::new("/dev/pts/ptmx");
        let master = root
            .open_without_symlinks(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW)
            .map_err(RootfsError::act("opening", path))?;
        let fs = fstatfs(&master).map_err(RootfsError::act("looking at", path))?;
        if fs.f_type as i64 != DEVPTS_SUPER_MAGIC {
            return Err(RootfsError::refused(path, "not on a devpts filesystem"));
        }
        unlockpt(&master).map_err(RootfsError::act("unlocking", path))?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave =
            ioctl_tiocgptpeer(&master, flags).map_err(RootfsError::act("opening the other side of", path))?;
        let stat = fstat(&slave).map_err(RootfsError::act("looking at", "the terminal"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
            || !PTY_SLAVE_MAJORS.contains(&major(stat.st_rdev))
        {
            return Err(RootfsError::refused(path, "its other side is no terminal"));
        }
        Ok(Self { master, slave })
    }

    /// Makes the slave the container's /dev/console.
    pub fn mount_console(&self, root: &Root) -> Result<(), RootfsError> {
        let path = Path::new("/dev/console");
        let target = root.ensure(path, Target::File)?;
        let mount = clone_of(&self.slave, path, false)?;
        attach(&mount, &target, path)
    }

    /// Rows and columns.
    pub fn resize(&self, (rows, columns): (u16, u16)) -> Result<(), RootfsError> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).map_err(RootfsError::act("resizing", "the terminal"))
    }

    /// Newlines go through as they are, as with runc: what a caller redirects to a file has no carriage returns in it.
    /// For a terminal that the runtime serves, and before anything is written to it.
    pub fn keep_newlines(&self) -> Result<(), RootfsError> {
        let failed = || RootfsError::act("setting the modes of", "the terminal");
        let mut modes = tcgetattr(&self.slave).map_err(failed())?;
        modes.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(&self.slave, OptionalActions::Now, &modes).map_err(failed())
    }

    /// Makes the slave the controlling terminal (of a session leader) and the standard streams.
    pub fn take(self) -> Result<(), RootfsError> {
        let failed = |act| RootfsError::act(act, "the terminal");
        rustix::process::ioctl_tiocsctty(&self.slave).map_err(failed("taking control of"))?;
        rustix::stdio::dup2_stdin(&self.slave).map_err(failed("connecting stdin to"))?;
        rustix::stdio::dup2_stdout(&self.slave).map_err(failed("connecting stdout to"))?;
        rustix::stdio::dup2_stderr(&self.slave).map_err(failed("connecting stderr to"))
    }
}

/// Connects to a unix socket by path; through a descriptor of its directory, so that the path may be of any length.
pub fn connect_path(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let dir =
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    let address = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    connect(&socket, &SocketAddrUnix::new(&address)?)?;
    Ok(socket)
}

/// Sends a descriptor with some bytes (for a console: the terminal's name, as runc does).
pub fn send_fd(socket: impl AsFd, fd: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
