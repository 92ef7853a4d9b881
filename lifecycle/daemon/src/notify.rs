//! Telling systemd that the daemon serves (sd_notify(3)).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `READY=1` to `NOTIFY_SOCKET`, if there is one.
pub fn ready() -> io::Result<()> {
    match env::var_os("NOTIFY_SOCKET") {
        Some(address) => send(&address, b"READY=1"),
        None => Ok(()),
    }
}

fn send(address: &OsStr, message: &[u8]) -> io::Result<()> {
    // a leading @ stands for the NUL of an abstract socket
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_arrives_at_either_kind_of_socket() {
        let at = tempfile::tempdir().expect("folder");
        let path = at.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bind");
        send(path.as_os_str(), b"READY=1").expect("send");
        let name = format!("wharf-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("address");
        let by_name = UnixDatagram::bind_addr(&address).expect("bind");
        send(format!("@{name}").as_ref(), b"READY=1").expect("send");
        for socket in [by_path, by_name] {
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).expect("receive");
            assert_eq!(&buffer[..length], b"READY=1");
        }
    }
}
