//! Connecting to shims' sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::endpoint::Address;

/// Longest path that fits `sockaddr_un`.
const MAX_SOCKET_PATH: usize = 107;

/// Connects to a unix socket without waiting for its owner.
pub(super) async fn dial(address: &Address) -> io::Result<UnixStream> {
    match address {
        Address::Abstract(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())?;
            let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        }
        Address::Path(path) if path.as_os_str().len() <= MAX_SOCKET_PATH => connect(path).await,
        Address::Path(path) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let folder =
                rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let name = path.file_name().unwrap_or_default();
            let number = folder.as_fd().as_raw_fd();
            connect(&Path::new("/proc/self/fd").join(number.to_string()).join(name)).await
        }
    }
}

/// A full backlog is reported as `WouldBlock`: the owner is busy, not gone.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let attempt = async {
        loop {
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => return other,
            }
        }
    };
    timeout(PATIENCE, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
}
