//! ttrpc: containerd's small RPC over unix sockets.
//!
//! A frame is a header of ten bytes (big-endian u32 length of the data, big-endian u32 stream id, type byte,
//! flags byte) and the data: a protobuf [`Request`] (type 1, odd stream ids, from the client) or
//! [`Response`] (type 2, same stream id). Streaming frames (type 3) are read and told apart, no more.
//! Source: the protocol description in containerd/ttrpc.

mod decoder;
mod message;

pub use decoder::{Decoder, Received};
pub use message::{Metadata, Request, Response, Status};

use std::io::{self, Read, Write};

use prost::Message;

/// The most bytes of data in a frame, as in the Go implementation.
pub const MAX_DATA: usize = 4 * 1024 * 1024;

const HEADER: usize = 10;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Request,
    Response,
    /// Streaming data, or something later than this.
    Other(u8),
}

impl Type {
    const fn of(byte: u8) -> Self {
        match byte {
            1 => Type::Request,
            2 => Type::Response,
            other => Type::Other(other),
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Type::Request => 1,
            Type::Response => 2,
            Type::Other(byte) => byte,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub stream: u32,
    pub kind: Type,
    pub data: Vec<u8>,
}

/// A frame's data is longer than [`MAX_DATA`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message length {0} exceed maximum message size of {MAX_DATA}")]
pub struct Oversized(pub usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    length: usize,
    stream: u32,
    kind: Type,
}

impl Header {
    fn parse(bytes: [u8; HEADER]) -> Self {
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = bytes;
        Header {
            length: u32::from_be_bytes([l0, l1, l2, l3]) as usize,
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            kind: Type::of(kind),
        }
    }
}

/// Reads one frame; `None` at the end of the connection between frames.
///
/// # Errors
/// Reading failed, or the frame is [`Oversized`]: nothing more can be read then.
pub fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER];
    let first = loop {
        match from.read(&mut header) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut header[first..])?;
    let Header { length, stream, kind } = Header::parse(header);
    if length > MAX_DATA {
        return Err(io::Error::other(Oversized(length)));
    }
    let mut data = vec![0; length];
    from.read_exact(&mut data)?;
    Ok(Some(Frame { stream, kind, data }))
}

/// Writes one frame with one call.
///
/// # Errors
/// Writing failed, or the message is [`Oversized`]: nothing was written then.
pub fn write(to: &mut impl Write, stream: u32, kind: Type, message: &impl Message) -> io::Result<()> {
    to.write_all(&frame(stream, kind, message).map_err(io::Error::other)?)
}

/// A message as the bytes of a frame.
///
/// # Errors
/// The message is too long.
pub fn frame(stream: u32, kind: Type, message: &impl Message) -> Result<Vec<u8>, Oversized> {
    let length = message.encoded_len();
    let wire_length = match u32::try_from(length) {
        Ok(wire_length) if length <= MAX_DATA => wire_length,
        _ => return Err(Oversized(length)),
    };
    let mut out = Vec::with_capacity(HEADER + length);
    out.extend_from_slice(&wire_length.to_be_bytes());
    out.extend_from_slice(&stream.to_be_bytes());
    // no flags
    out.extend_from_slice(&[kind.byte(), 0]);
    message.encode_raw(&mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_the_wires_bytes() {
        let request =
            Request { service: "s".into(), method: "m".into(), payload: vec![7], ..Request::default() };
        let mut out = Vec::new();
        write(&mut out, 3, Type::Request, &request).unwrap();
        assert_eq!(out, b"\x00\x00\x00\x09\x00\x00\x00\x03\x01\x00\x0a\x01s\x12\x01m\x1a\x01\x07");
        let frame = read(&mut &out[..]).unwrap().unwrap();
        assert_eq!((frame.stream, frame.kind), (3, Type::Request));
        assert_eq!(Request::decode(&frame.data[..]).unwrap(), request);
    }

    #[test]
    fn the_end_between_frames_is_none_and_within_one_an_error() {
        assert_eq!(read(&mut &b""[..]).unwrap(), None);
        assert!(read(&mut &b"\x00\x00"[..]).is_err());
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_its_bytes_are_read() {
        assert!(read(&mut &b"\xff\xff\xff\xff\x00\x00\x00\x01\x01\x00"[..]).is_err());
    }

    #[test]
    fn a_message_beyond_the_bound_is_not_written() {
        let request = |length| Request { payload: vec![0; length], ..Request::default() };
        // tag and length of the payload take five bytes
        assert_eq!(frame(1, Type::Request, &request(MAX_DATA - 5)).map(|f| f.len()), Ok(MAX_DATA + HEADER));
        assert_eq!(frame(1, Type::Request, &request(MAX_DATA - 4)), Err(Oversized(MAX_DATA + 1)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&mut &bytes[..]);
            // a length that fits, so that the data is looked at
            if bytes.len() >= 10 {
                let len = bytes.len() as u32 - 10;
                bytes[..4].copy_from_slice(&len.to_be_bytes());
                let frame = read(&mut &bytes[..]).unwrap().unwrap();
                let _ = Request::decode(&frame.data[..]);
            }
        }
    }
}
