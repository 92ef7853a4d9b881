//! Connecting to shims' sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
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
            // a leading zero byte says so
            connect(Path::new(&format!("\0{name}"))).await
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

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

    use super::*;

    fn socket() -> OwnedFd {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("socket")
    }

    #[tokio::test]
    async fn abstract_socket_whose_owner_is_busy_holds_up_no_thread() {
        let name = format!("wharf-dial-{}", std::process::id());
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("short");
        let listener = socket();
        rustix::net::bind(&listener, &address).expect("bind");
        rustix::net::listen(&listener, 0).expect("listen");
        let dialled = dial(&Address::Abstract(name.clone())).await.expect("there is room");
        let mut waiting = Vec::new();
        loop {
            let next = socket();
            match rustix::net::connect(&next, &address) {
                Ok(()) => waiting.push(next),
                Err(error) if error == rustix::io::Errno::AGAIN => break,
                Err(error) => panic!("{error}"),
            }
        }
        // it would be for ever
        let error = dial(&Address::Abstract(name)).await.expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop((dialled, waiting, listener));
    }
}
