//! Clients that name the socket's path as `:authority`, percent-encoded, as gRPC's C core does for unix sockets
//! (Python, C++, Ruby, PHP, C#). Neither `%` nor `/` can stand in the authority of a URI (RFC 3986, 3.2.2), so the
//! HTTP/2 library refuses such requests (`PROTOCOL_ERROR`); Go's takes them. Nothing here reads the authority.
//!
//! So the bytes that cannot be there are replaced by `-` on their way in, in place: a header block keeps its length,
//! and so does every entry of the table that both sides build from it (RFC 7541). Values that are Huffman-coded are
//! passed on as they are: the C core sends its authority plain.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags, stream (RFC 9113, 4.1).
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// Longer frames are refused by the library, which announces no other size (RFC 9113, 6.5.2).
const MAX_FRAME: usize = 16_384;

/// A connection whose requests have an authority that the HTTP/2 library takes.
pub(crate) struct Tolerant<S> {
    inner: S,
    place: Place,
    /// The beginning of a frame that is not here as a whole.
    held: Vec<u8>,
    /// What was held and is to be read, from `given` on.
    whole: Vec<u8>,
    given: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many bytes of the preface were seen.
    Preface(usize),
    Frame,
    /// So many bytes of a frame that is passed on as it is.
    Payload(usize),
    /// It is not HTTP/2: somebody else's to refuse.
    Foreign,
}

impl<S> Tolerant<S> {
    pub(crate) fn new(inner: S) -> Self {
        Tolerant { inner, place: Place::Preface(0), held: Vec::new(), whole: Vec::new(), given: 0 }
    }

    /// Goes over bytes as they came, and changes those that are to be changed. How many of them may be read now: the
    /// rest is held until there is more.
    fn pass(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.len() - at;
            match self.place {
                Place::Foreign => return bytes.len(),
                Place::Preface(seen) => {
                    let n = left.min(PREFACE.len() - seen);
                    let is_ours = bytes[at..at + n] == PREFACE[seen..seen + n];
                    self.place = match (is_ours, seen + n == PREFACE.len()) {
                        (false, _) => Place::Foreign,
                        (true, true) => Place::Frame,
                        (true, false) => Place::Preface(seen + n),
                    };
                    at += n;
                }
                Place::Payload(length) => {
                    let n = left.min(length);
                    self.place = if n == length { Place::Frame } else { Place::Payload(length - n) };
                    at += n;
                }
                Place::Frame => match whole_frame(&bytes[at..]) {
                    None => {
                        self.held.extend_from_slice(&bytes[at..]);
                        return at;
                    }
                    Some(Whole::Changed(length)) => {
                        fix_headers(&mut bytes[at..at + length]);
                        at += length;
                    }
                    Some(Whole::AsItIs(length)) => {
                        self.place = if length == 0 { Place::Frame } else { Place::Payload(length) };
                        at += HEAD;
                    }
                },
            }
        }
        at
    }

    /// How many bytes what is held lacks, at least.
    fn missing(&self) -> usize {
        match self.held.first_chunk::<HEAD>() {
            None => HEAD - self.held.len(),
            Some(head) => (HEAD + length(head)).saturating_sub(self.held.len()).max(1),
        }
    }
}

enum Whole {
    /// A frame of headers, of so many bytes with its head.
    Changed(usize),
    /// Any other's payload has so many bytes.
    AsItIs(usize),
}

/// None if there is too little to go on with.
fn whole_frame(bytes: &[u8]) -> Option<Whole> {
    let head = bytes.first_chunk::<HEAD>()?;
    let length = length(head);
    if head[3] != HEADERS || length > MAX_FRAME {
        return Some(Whole::AsItIs(length));
    }
    (bytes.len() >= HEAD + length).then_some(Whole::Changed(HEAD + length))
}

fn length(head: &[u8; HEAD]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// A block that goes on in further frames is gone over as far as this one has it: the authority is at its beginning.
fn fix_headers(frame: &mut [u8]) {
    let flags = frame[4];
    let payload = &mut frame[HEAD..];
    let mut block = 0..payload.len();
    if flags & PADDED != 0 {
        let Some(padding) = payload.first().copied().map(usize::from) else { return };
        block = 1..payload.len().saturating_sub(padding);
    }
    if flags & PRIORITY != 0 {
        block.start += 5;
    }
    if let Some(block) = payload.get_mut(block) {
        fix_block(block);
    }
}

/// RFC 7541, 6. What cannot be read is left to the library to refuse.
fn fix_block(block: &mut [u8]) {
    let mut at = 0;
    while let Some(&first) = block.get(at) {
        let prefix = match first {
            // a field of the table, and the table's size: numbers
            0x80.. => 7,
            0x20..0x40 => 5,
            0x40..0x80 => 6,
            _ => 4,
        };
        let Some(index) = number(block, &mut at, prefix) else { return };
        if prefix == 7 || prefix == 5 {
            continue;
        }
        let is_authority = match index {
            0 => match string(block, &mut at) {
                Some((name, is_coded)) => !is_coded && block[name] == *b":authority",
                None => return,
            },
            index => index == 1,
        };
        let Some((value, is_coded)) = string(block, &mut at) else { return };
        if is_authority && !is_coded {
            fix_authority(&mut block[value]);
        }
    }
}

/// RFC 7541, 5.1. Larger ones than any length or index are no numbers here.
fn number(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let mask = (1u8 << prefix) - 1;
    let mut value = usize::from(block.get(*at)? & mask);
    *at += 1;
    if value < usize::from(mask) {
        return Some(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Where it is, and whether it is Huffman-coded (RFC 7541, 5.2).
fn string(block: &[u8], at: &mut usize) -> Option<(Range<usize>, bool)> {
    let is_coded = block.get(*at)? & 0x80 != 0;
    let length = number(block, at, 7)?;
    let end = at.checked_add(length).filter(|end| *end <= block.len())?;
    let found = *at..end;
    *at = end;
    Some((found, is_coded))
}

/// One that the library would refuse becomes what is a host name whatever it was: of a path's bytes even those that
/// may stand in an authority need not make one (`a:b:c`, `[`).
fn fix_authority(value: &mut [u8]) {
    if http::uri::Authority::try_from(&*value).is_err() {
        let stands = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
        value.iter_mut().filter(|byte| !stands(byte)).for_each(|byte| *byte = b'-');
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tolerant<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.given < this.whole.len() {
                let n = buffer.remaining().min(this.whole.len() - this.given);
                buffer.put_slice(&this.whole[this.given..this.given + n]);
                this.given += n;
                if this.given == this.whole.len() {
                    // the connection may live long, and need it never again
                    (this.whole, this.given) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            if this.held.is_empty() {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
                if buffer.filled().len() == before {
                    return Poll::Ready(Ok(()));
                }
                let passed = this.pass(&mut buffer.filled_mut()[before..]);
                buffer.set_filled(before + passed);
                if passed > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let mut space = [0; 1024];
                let wanted = this.missing().min(space.len());
                let mut more = ReadBuf::new(&mut space[..wanted]);
                ready!(Pin::new(&mut this.inner).poll_read(cx, &mut more))?;
                let mut held = std::mem::take(&mut this.held);
                this.given = 0;
                if more.filled().is_empty() {
                    // it ended within a frame: the library is to see that
                    (this.whole, this.place) = (held, Place::Foreign);
                } else {
                    held.extend_from_slice(more.filled());
                    let passed = this.pass(&mut held);
                    held.truncate(passed);
                    this.whole = held;
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tolerant<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<S: Connected> Connected for Tolerant<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests;
