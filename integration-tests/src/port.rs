//! Loopback ports that no other test gets meanwhile.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// A port that connections are refused at, as long as this lives: bound, and never listened at.
pub struct Refusing {
    _socket: OwnedFd,
    pub port: u16,
}

impl Refusing {
    pub fn new() -> Refusing {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = SocketAddrV4::try_from(getsockname(&socket).expect("its address")).expect("IPv4");
        Refusing { _socket: socket, port: address.port() }
    }
}

impl Default for Refusing {
    fn default() -> Self {
        Refusing::new()
    }
}

/// A port for a program that cannot be given port 0. The kernel gives none below 32768 to a connection or a listener
/// that asks for any, so it stays free until the program listens there.
pub fn free() -> u16 {
    let first = 10_000 + (std::process::id() % 10_000) as u16;
    (first..32_000).find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("a free port")
}
