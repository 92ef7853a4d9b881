//! The engine's side of an attach socket.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::frame::{self, FrameError};
use crate::{AttachEvent, AttachRequest};

/// Why a client could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The request cannot be written, or the answer is none.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The socket failed.
    #[error("attach socket: {act}: {source}")]
    Socket {
        /// `send` or `receive`.
        act: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Sends the request, with `client` as SCM_RIGHTS on its first byte. Blocks; without `client` the control
/// socket itself is the data socket once [`AttachEvent::Attached`] was received.
///
/// # Errors
/// If the request is too long or the socket fails.
pub fn hand_over(
    control: &UnixStream,
    request: &AttachRequest,
    client: Option<BorrowedFd<'_>>,
) -> Result<(), HandOverError> {
    let failed = |source| HandOverError::Socket { act: "send", source };
    let bytes = frame::encode(request)?;
    let mut sent = 0;
    if let Some(fd) = client {
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(failed(std::io::Error::other("no room for one descriptor")));
        }
        sent = rustix::net::sendmsg(control, &[IoSlice::new(&bytes)], &mut rights, SendFlags::NOSIGNAL)
            .map_err(|e| failed(e.into()))?;
    }
    let mut control = control;
    control.write_all(&bytes[sent..]).map_err(failed)
}

/// Waits for the shim's next event. Reads not one byte beyond its frame, so that data may follow. Set the
/// socket's read timeout first to bound the wait.
///
/// # Errors
/// If the socket ends or fails, or the bytes are no event.
pub fn receive_event(control: &UnixStream) -> Result<AttachEvent, HandOverError> {
    let failed = |source| HandOverError::Socket { act: "receive", source };
    let mut control = control;
    let mut buffer = vec![0; 4];
    control.read_exact(&mut buffer).map_err(failed)?;
    let len = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
    if len > frame::MAX_FRAME {
        return Err(FrameError::TooLong(len).into());
    }
    buffer.resize(4 + len, 0);
    control.read_exact(&mut buffer[4..]).map_err(failed)?;
    let event = frame::take(&mut buffer)?;
    event.ok_or_else(|| failed(std::io::ErrorKind::UnexpectedEof.into()))
}
