//! Frames out of bytes that arrive in pieces of any size.

use crate::{Frame, HEADER, Header, MAX_DATA, Oversized, Type};

/// The most that is set aside on the word of a header alone.
const ON_TRUST: usize = 64 * 1024;

/// A frame, or what is known of one that is too long to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    Frame(Frame),
    /// Its data is skipped; what follows is read as ever.
    Oversized {
        stream: u32,
        kind: Type,
        error: Oversized,
    },
}

/// Takes frames out of a stream of bytes. Between frames it holds no memory of its own.
#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; HEADER],
    /// Bytes of the header that are there; all of them while data is expected.
    known: u8,
    /// Bytes of data to be skipped.
    skipped: u32,
    data: Vec<u8>,
}

impl Decoder {
    /// Takes bytes from the front of `bytes`, up to the end of the first frame that is complete with them.
    /// `None` means that all were taken and more are needed.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Option<Received> {
        let skipped = bytes.len().min(self.skipped as usize);
        *bytes = &bytes[skipped..];
        self.skipped -= skipped as u32;
        let known = usize::from(self.known);
        if known < HEADER {
            let count = bytes.len().min(HEADER - known);
            let (head, rest) = bytes.split_at(count);
            self.header[known..known + count].copy_from_slice(head);
            *bytes = rest;
            self.known += count as u8;
            if known + count < HEADER {
                return None;
            }
            let Header { length, stream, kind } = Header::parse(self.header);
            if length > MAX_DATA {
                (self.known, self.skipped) = (0, length as u32);
                return Some(Received::Oversized { stream, kind, error: Oversized(length) });
            }
            self.data.reserve_exact(length.min(ON_TRUST));
        }
        let Header { length, stream, kind } = Header::parse(self.header);
        let (data, rest) = bytes.split_at(bytes.len().min(length - self.data.len()));
        self.data.extend_from_slice(data);
        *bytes = rest;
        if self.data.len() < length {
            return None;
        }
        self.known = 0;
        Some(Received::Frame(Frame { stream, kind, data: std::mem::take(&mut self.data) }))
    }

    /// Whether a frame has begun and is not complete.
    pub fn is_within_frame(&self) -> bool {
        self.known > 0 || self.skipped > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, frame, read};
    use proptest::prelude::*;

    fn all(decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<Received> {
        std::iter::from_fn(|| decoder.take(&mut bytes)).collect()
    }

    fn request(stream: u32, length: usize) -> Vec<u8> {
        let request = Request { service: "s".into(), payload: vec![7; length], ..Request::default() };
        frame(stream, Type::Request, &request).expect("short")
    }

    #[test]
    fn frames_split_at_every_byte_are_whole() {
        let bytes = [request(1, 0), request(3, 40), request(5, 300)].concat();
        let expected: Vec<_> = {
            let mut rest = &bytes[..];
            std::iter::from_fn(|| read(&mut rest).expect("whole")).map(Received::Frame).collect()
        };
        assert_eq!(expected.len(), 3);
        for at in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut found = all(&mut decoder, &bytes[..at]);
            found.extend(all(&mut decoder, &bytes[at..]));
            assert_eq!(found, expected, "split at {at}");
            assert!(!decoder.is_within_frame());
        }
        let mut decoder = Decoder::default();
        let found: Vec<_> = bytes.chunks(1).flat_map(|byte| all(&mut decoder, byte)).collect();
        assert_eq!(found, expected, "byte by byte");
    }

    #[test]
    fn frame_that_is_too_long_is_skipped() {
        let length = MAX_DATA + 1;
        let mut bytes = [&(length as u32).to_be_bytes()[..], &7u32.to_be_bytes(), &[2, 0]].concat();
        bytes.resize(bytes.len() + length, 9);
        bytes.extend(request(9, 4));
        let mut decoder = Decoder::default();
        let found: Vec<_> = bytes.chunks(4096).flat_map(|piece| all(&mut decoder, piece)).collect();
        let error = Oversized(length);
        assert_eq!(found[0], Received::Oversized { stream: 7, kind: Type::Response, error });
        assert!(matches!(&found[1..], [Received::Frame(Frame { stream: 9, .. })]));
    }

    #[test]
    fn header_alone_sets_little_aside() {
        let mut decoder = Decoder::default();
        let mut bytes = &[&(MAX_DATA as u32).to_be_bytes()[..], &[0, 0, 0, 1, 2, 0]].concat()[..];
        assert_eq!(decoder.take(&mut bytes), None);
        assert!(decoder.is_within_frame());
        assert!(decoder.data.capacity() <= ON_TRUST);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same(
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..200),
            size in 1usize..20,
        ) {
            let whole = all(&mut Decoder::default(), &bytes);
            let mut decoder = Decoder::default();
            let pieces: Vec<_> = bytes.chunks(size).flat_map(|piece| all(&mut decoder, piece)).collect();
            prop_assert_eq!(&pieces, &whole);
            let mut rest = &bytes[..];
            for received in whole {
                match received {
                    Received::Frame(frame) => prop_assert_eq!(read(&mut rest).unwrap(), Some(frame)),
                    Received::Oversized { .. } => {
                        prop_assert!(read(&mut rest).is_err());
                        break;
                    }
                }
            }
        }
    }
}
