//! Frames and the messages in them.

use std::io::{self, Read, Write};

use prost::Message;
pub use wharf_containerd::google::rpc::Status;

/// The most bytes of data in a frame, as in the Go implementation.
pub(super) const MAX_DATA: usize = 4 * 1024 * 1024;

/// A call.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Full service name, `containerd.task.v3.Task`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Method name.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The encoded request message.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// Nanoseconds the caller will wait; 0 is no limit.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// Headers.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<Metadata>,
}

/// A header.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// An answer.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// Absent or code 0 for success.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The encoded response message.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Request,
    Response,
    /// Streaming data, or something later than this.
    Other(u8),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub stream: u32,
    pub kind: Type,
    pub data: Vec<u8>,
}

/// Reads one frame; `None` at the end of the connection between frames.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut header = [0; 10];
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
    let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = header;
    let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if len > MAX_DATA {
        return Err(io::Error::other(format!("ttrpc frame of {len} bytes is longer than {MAX_DATA}")));
    }
    let mut data = vec![0; len];
    from.read_exact(&mut data)?;
    let kind = match kind {
        1 => Type::Request,
        2 => Type::Response,
        other => Type::Other(other),
    };
    Ok(Some(Frame { stream: u32::from_be_bytes([s0, s1, s2, s3]), kind, data }))
}

/// Writes one frame with one call.
pub(super) fn write(to: &mut impl Write, stream: u32, kind: Type, message: &impl Message) -> io::Result<()> {
    let mut out = vec![0; 10];
    message.encode(&mut out).map_err(io::Error::other)?;
    let len = out.len() - 10;
    if len > MAX_DATA {
        return Err(io::Error::other(format!("ttrpc frame of {len} bytes is longer than {MAX_DATA}")));
    }
    out[..4].copy_from_slice(&(len as u32).to_be_bytes());
    out[4..8].copy_from_slice(&stream.to_be_bytes());
    out[8] = match kind {
        Type::Request => 1,
        Type::Response => 2,
        Type::Other(kind) => kind,
    };
    to.write_all(&out)
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
