//! What one side of runw's handshake makes of anything that the other may send.
//!
//! Input: a byte that says who listens and which steps are in the script; then messages, each a byte of length (times
//! 48 with the high bit of the next one), a byte that says how many descriptors come with it (its low two bits), and
//! its bytes.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use runw::handshake::{Channel, HandshakeError, Script, Step};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::outcome;

/// Messages that are sent ahead; they fit the socket's buffer.
const MAX_MESSAGES: usize = 10;

/// Whatever comes: a step is done only if exactly its message came, and no descriptor is left open.
pub fn handshake(data: &[u8]) -> u64 {
    let Some((&head, rest)) = data.split_first() else { return 0 };
    let script = Script {
        maps_ids: head & 1 != 0,
        runtime_hooks: head & 2 != 0,
        serves_terminal: head & 4 != 0,
        seccomp_listener: head & 8 != 0,
        places: head & 32 != 0,
    };
    let open = descriptors();
    let (parent, init) = Channel::pair(script).expect("a socket pair");
    let (listener, other, parent_listens) =
        if head & 16 == 0 { (parent, init, true) } else { (init, parent, false) };
    let sent = send_all(&other, rest);
    drop(other);
    let done = listen(listener, script, parent_listens, &sent);
    assert_eq!(descriptors(), open, "descriptors are left open");
    outcome::of("handshake", &done, |count| *count)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

fn send_all(to: &Channel, mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    while let [length, flags, tail @ ..] = rest {
        let length = usize::from(*length) * if flags & 0x80 != 0 { 48 } else { 1 };
        let (message, tail) = tail.split_at(length.min(tail.len()));
        if sent.len() == MAX_MESSAGES || !send(to, message, usize::from(flags & 3)) {
            break;
        }
        sent.push(message.to_vec());
        rest = tail;
    }
    sent
}

fn send(to: &Channel, message: &[u8], count: usize) -> bool {
    let fds: [BorrowedFd<'_>; 3] = [to.as_fd(); 3];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if count > 0 {
        control.push(SendAncillaryMessage::ScmRights(&fds[..count]));
    }
    sendmsg(to, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
}

fn listen(
    mut channel: Channel,
    script: Script,
    parent: bool,
    sent: &[Vec<u8>],
) -> Result<usize, HandshakeError> {
    let mut messages = sent.iter();
    let mut done = 0;
    for (step, from_init, in_script) in [
        (Step::Mapped, false, script.maps_ids),
        (Step::Placed, false, script.places),
        (Step::Mounted, true, script.runtime_hooks),
        (Step::HooksDone, false, script.runtime_hooks),
        (Step::Terminal, true, script.serves_terminal),
        (Step::Listener, true, script.seccomp_listener),
        (Step::Ready, true, true),
        (Step::Go, false, true),
    ] {
        if from_init != parent {
            // the other side is gone; what it said before is still to be read, and the next of it is taken for the reason
            if channel.send(step, None).is_err() {
                messages.next();
            }
            continue;
        }
        if matches!(step, Step::Terminal | Step::Listener) {
            assert_eq!(channel.expect_fd(step)?.is_some(), in_script, "{step:?}");
        } else if step == Step::Placed {
            let fds = channel.expect_fds(step)?;
            assert_eq!(fds.is_some(), in_script, "{step:?}");
            if let Some(fds) = fds {
                let told = [step as u8, fds.len() as u8];
                assert_eq!(messages.next().map(Vec::as_slice), Some(&told[..]), "{step:?}");
                done += 1;
            }
            continue;
        } else {
            channel.expect(step)?;
        }
        if in_script {
            assert_eq!(messages.next().map(Vec::as_slice), Some(&[step as u8][..]), "{step:?}");
            done += 1;
        }
    }
    if parent {
        channel.executed()?;
        let next = messages.next();
        assert!(next.is_none_or(|m| m.is_empty()), "{next:?} after Go");
    }
    Ok(done)
}
