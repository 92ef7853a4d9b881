//! Id-mapping mounts for an init that may not: only who is privileged over the filesystem, which is the host's, may give
//! a mount another mapping (mount_setattr(2)). Init of a user namespace copies such a mount and passes the copy to the
//! runtime, over a socket of its own since there may be any number of them.

use crate::plan::ContainerPlan;
use crate::plan::mounts::MountKind;
use crate::sources::{self, Source};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

/// Init's end.
#[derive(Debug)]
pub struct Asker(OwnedFd);

/// The runtime's end.
#[derive(Debug)]
pub struct Mapper(OwnedFd);

/// Both ends, for a container that needs them.
pub fn pair(plan: &ContainerPlan, sources: &[Option<Source>]) -> io::Result<Option<(Mapper, Asker)>> {
    if !plan.namespaces.has_user() || wanted(plan, sources).next().is_none() {
        return Ok(None);
    }
    let (ours, inits) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok(Some((Mapper(ours), Asker(inits))))
}

/// The mappings that will be asked for, in the order of the mounts, and whether they are recursive.
fn wanted<'a>(
    plan: &'a ContainerPlan,
    sources: &'a [Option<Source>],
) -> impl Iterator<Item = (&'a OwnedFd, bool)> {
    plan.mounts.iter().zip(sources).filter_map(|(op, source)| match (&op.kind, source) {
        (MountKind::Bind { idmap: Some(map), .. }, Some(Source::Inside { users: Some(users) })) => {
            Some((users, map.recursive))
        }
        _ => None,
    })
}

impl Asker {
    /// Has the next of the mappings given to a detached mount.
    pub fn map(&self, tree: &OwnedFd) -> io::Result<()> {
        crate::console::send_fd(&self.0, tree, b"m")?;
        let mut answer = [0u8; 4];
        let got = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut answer))?;
        match i32::from_ne_bytes(answer) {
            _ if got != answer.len() => Err(io::Error::other("the runtime ended")),
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Mapper {
    /// Serves init until it has had all of them, or has ended (which the handshake then tells).
    pub fn serve(self, plan: &ContainerPlan, sources: &[Option<Source>]) -> io::Result<()> {
        for (users, recursive) in wanted(plan, sources) {
            let Some(tree) = self.receive()? else { return Ok(()) };
            let errno = match sources::id_map(&tree, users, recursive) {
                Ok(()) => 0,
                Err(e) => e.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
            };
            match rustix::net::send(&self.0, &errno.to_ne_bytes(), rustix::net::SendFlags::NOSIGNAL) {
                Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn receive(&self) -> io::Result<Option<OwnedFd>> {
        let mut byte = [0u8; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::io::retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        match got {
            Err(Errno::CONNRESET) => return Ok(None),
            other => other?,
        };
        Ok(control.drain().find_map(|m| match m {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        }))
    }
}
