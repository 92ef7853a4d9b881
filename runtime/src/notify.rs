//! The service manager's notification socket (sd_notify(3)) for the container: a socket of its own at /run/notify, from
//! which only the news that it is ready goes on to the host's. What else a container says there is nobody's business:
//! the rest of the protocol hands descriptors and main processes over.

use crate::console;
use crate::spec::Spec;
use oci_spec::runtime::MountBuilder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with,
};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const IN_CONTAINER: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// How long the service manager may take to acknowledge (runc's bound).
const BARRIER: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
/// The longest message looked at.
const MAX_MESSAGE: usize = 4096;

/// The host's socket, as the caller of this process has it.
pub fn host() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

/// The directory with the container's socket, below its state.
pub fn dir(state: &Path) -> PathBuf {
    state.join("notify")
}

/// Adds mount and variable to the container's configuration.
pub fn add_to(spec: &mut Spec, dir: &Path) -> Result<(), oci_spec::OciSpecError> {
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
    let mount =
        MountBuilder::default().destination(IN_CONTAINER).source(dir).typ("bind").options(options).build()?;
    spec.mounts.get_or_insert_default().push(mount);
    if let Some(process) = &mut spec.process {
        process.env.get_or_insert_default().push(format!("NOTIFY_SOCKET={IN_CONTAINER}/{NAME}"));
    }
    Ok(())
}

pub fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o755).create(dir)
}

/// Binds the container's socket, which any of its users may write to.
pub fn listen(dir: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    // by the descriptor, so that the path may be of any length
    let address = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
    bind(&socket, &SocketAddrUnix::new(&address)?)?;
    rustix::fs::chmodat(&dir, NAME, Mode::from_raw_mode(0o777), rustix::fs::AtFlags::empty())?;
    Ok(socket)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// Waits until the container says that it is ready, and passes that on with `main_pid` as the service's main process;
/// or until `process` has ended.
pub fn forward(socket: &OwnedFd, host: &OsStr, process: &OwnedFd, main_pid: i32) -> io::Result<()> {
    let manager = connect_host(host)?;
    let mut buffer = [0u8; MAX_MESSAGE];
    loop {
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(process, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if fds[0].revents().is_empty() {
            return Ok(());
        }
        let got = match recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((n, _)) => n,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(e) => return Err(e.into()),
        };
        if let Some(line) = ready(buffer.get(..got).unwrap_or_default()) {
            send(&manager, &[line, b"\n"].concat(), SendFlags::NOSIGNAL)?;
            send(&manager, format!("MAINPID={main_pid}\n").as_bytes(), SendFlags::NOSIGNAL)?;
            return barrier(&manager);
        }
    }
}

/// The line of a message that says READY.
fn ready(message: &[u8]) -> Option<&[u8]> {
    message.split(|b| *b == b'\n').find(|line| line.starts_with(b"READY="))
}

fn connect_host(host: &OsStr) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let address = match host.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(Path::new(host))?,
    };
    connect(&socket, &address)?;
    Ok(socket)
}

/// sd_notify_barrier(3): the manager closes the descriptor once it has read all that came before.
fn barrier(manager: &OwnedFd) -> io::Result<()> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    console::send_fd(manager, &write, b"BARRIER=1")?;
    drop(write);
    let ready = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&read, PollFlags::IN)], Some(&BARRIER)))?;
    if ready == 0 {
        crate::log::warn("the service manager did not acknowledge within 30 s");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_that_says_ready_is_taken() {
        assert_eq!(ready(b"STATUS=x\nREADY=1\nMAINPID=1"), Some(&b"READY=1"[..]));
        assert_eq!(ready(b"STATUS=READY=1\nFDSTORE=1"), None);
    }
}
