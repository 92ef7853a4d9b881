//! Telling the service manager: `sd_notify`'s protocol, a datagram to the socket it names.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state such as `READY=1`; without a service manager this does nothing.
pub fn tell(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = (|| {
        let socket = UnixDatagram::unbound()?;
        let name = name.to_string_lossy();
        let address = match name.strip_prefix('@') {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
            None => SocketAddr::from_pathname(name.as_ref())?,
        };
        socket.send_to_addr(state.as_bytes(), &address)
    })();
    if let Err(error) = sent {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}
