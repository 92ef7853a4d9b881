//! Messages of rtnetlink: the four that moving an interface takes (netlink(7), rtnetlink(7)).

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const EXCL: u16 = 0x200;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFF_UP: u32 = 1;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;
/// Bytes of nlmsghdr.
const HEADER: usize = 16;
/// The kernel's dumps come in pieces of at most 32 KiB.
const BUFFER: usize = 1 << 16;
/// More addresses than this on one host are not read.
const MAX_ADDRESSES: usize = 65536;

/// A message without its length and sequence number.
#[derive(Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

/// An address of an interface, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    scope: u8,
    /// IFA_ADDRESS, IFA_LOCAL and IFA_BROADCAST, as they came.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Set by a person and valid everywhere: neither learnt from a router nor made by the kernel.
    pub fn is_lasting(&self) -> bool {
        self.flags & IFA_F_PERMANENT != 0 && self.scope == RT_SCOPE_UNIVERSE
    }
}

impl Request {
    /// A change of an interface: ifinfomsg, to be filled.
    pub fn link(index: u32) -> Self {
        let mut body = vec![0; 4];
        body.extend_from_slice(&index.to_ne_bytes());
        body.extend_from_slice(&[0; 8]);
        Self { kind: RTM_NEWLINK, flags: REQUEST | ACK, body }
    }

    pub fn set_up(mut self, up: bool) -> Self {
        // ifi_flags and ifi_change
        let flags = if up { IFF_UP } else { 0 };
        self.body.truncate(8);
        self.body.extend_from_slice(&flags.to_ne_bytes());
        self.body.extend_from_slice(&IFF_UP.to_ne_bytes());
        self
    }

    pub fn name(self, name: &str) -> Self {
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        self.attribute(IFLA_IFNAME, &value)
    }

    pub fn namespace(self, fd: i32) -> Self {
        self.attribute(IFLA_NET_NS_FD, &fd.to_ne_bytes())
    }

    /// ifaddrmsg and its attributes.
    pub fn add_address(index: u32, address: &Address) -> Self {
        let mut body = vec![address.family, address.prefix, 0, address.scope];
        body.extend_from_slice(&index.to_ne_bytes());
        let request = Self { kind: RTM_NEWADDR, flags: REQUEST | ACK | CREATE | EXCL, body };
        address.attributes.iter().fold(request, |r, (kind, value)| r.attribute(*kind, value))
    }

    /// rtattr: length, type, value, padding to four bytes.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.body.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.body.len());
        out.extend_from_slice(&((HEADER + self.body.len()) as u32).to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&self.flags.to_ne_bytes());
        out.extend_from_slice(&[0; 8]); // one request at a time: no sequence number needed; the sender is the kernel's to fill
        out.extend_from_slice(&self.body);
        out
    }
}

/// A socket of rtnetlink, for one request at a time.
#[derive(Debug)]
pub struct Route(OwnedFd);

impl AsFd for Route {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Route {
    pub fn open() -> Result<Self, Errno> {
        // NETLINK_ROUTE is protocol 0, which None stands for
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    /// Sends a request and awaits its acknowledgement.
    pub fn ask(&self, request: &Request) -> Result<(), Errno> {
        self.exchange(request, |_, _| Ok(()))
    }

    /// All addresses of one interface.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>, Errno> {
        let request = Request { kind: RTM_GETADDR, flags: REQUEST | DUMP, body: vec![0; 8] };
        let mut out = Vec::new();
        self.exchange(&request, |kind, body| {
            if out.len() >= MAX_ADDRESSES {
                return Err(Errno::TOOBIG);
            }
            if kind == RTM_NEWADDR
                && let Some((of, address)) = parse_address(body)
                && of == index
            {
                out.push(address);
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Sends, and gives every answer to `each` until the one that says that it was the last.
    fn exchange(
        &self,
        request: &Request,
        mut each: impl FnMut(u16, &[u8]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| send(&self.0, &request.bytes(), SendFlags::empty()))?;
        let mut buffer = vec![0u8; BUFFER];
        loop {
            let (got, _) =
                rustix::io::retry_on_intr(|| recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()))?;
            let mut rest = buffer.get(..got).unwrap_or_default();
            if rest.is_empty() {
                return Err(Errno::PROTO);
            }
            while !rest.is_empty() {
                let (kind, body, more) = message(rest).ok_or(Errno::PROTO)?;
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = i32::from_ne_bytes(array(body, 0).ok_or(Errno::PROTO)?);
                        return if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(-code)) };
                    }
                    _ => each(kind, body)?,
                }
                rest = more;
            }
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The first message: type, body, and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(array(bytes, 0)?) as usize;
    let kind = u16::from_ne_bytes(array(bytes, 4)?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// ifaddrmsg with its attributes; the index of the interface, and the address.
fn parse_address(body: &[u8]) -> Option<(u32, Address)> {
    let [family, prefix, flags, scope] = array(body, 0)?;
    let index = u32::from_ne_bytes(array(body, 4)?);
    let mut address = Address { family, prefix, flags: u32::from(flags), scope, attributes: Vec::new() };
    let mut rest = body.get(8..)?;
    while !rest.is_empty() {
        let length = usize::from(u16::from_ne_bytes(array(rest, 0)?));
        let kind = u16::from_ne_bytes(array(rest, 2)?);
        let value = rest.get(4..length)?;
        match kind {
            IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST => address.attributes.push((kind, value.to_vec())),
            IFA_FLAGS => address.flags = u32::from_ne_bytes(array(value, 0)?),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((index, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_written_can_be_read() {
        let address = Address {
            family: 2,
            prefix: 24,
            flags: 0,
            scope: 0,
            attributes: vec![(IFA_ADDRESS, vec![10, 0, 0, 1]), (IFA_LOCAL, vec![10, 0, 0, 1])],
        };
        let bytes = Request::add_address(7, &address).bytes();
        let (kind, body, rest) = message(&bytes).unwrap();
        assert_eq!((kind, rest.len()), (RTM_NEWADDR, 0));
        assert_eq!(parse_address(body), Some((7, address)));
    }

    #[test]
    fn cut_messages_are_no_messages() {
        let bytes = Request::link(1).name("eth0").bytes();
        for end in 0..bytes.len() {
            assert!(message(&bytes[..end]).is_none(), "{end}");
        }
        assert!(parse_address(&[0; 11]).is_none());
    }
}
