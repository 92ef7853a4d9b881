//! Docker's local driver: a big-endian u32 length, a protobuf `LogEntry`, the length again.
//!
//! `LogEntry` is source = 1 (string), time_nano = 2 (int64), line = 3 (bytes), partial = 4 (bool),
//! partial_log_metadata = 5 { last = 1 (bool), id = 2 (string), ordinal = 3 (int32) },
//! attrs = 6 { key = 1, value = 2 }.

use std::collections::BTreeMap;

use crate::lines::{End, Piece};
use crate::{Decoded, MAX_RECORD, Record, Stamp, Stream};

const VARINT: u64 = 0;
const BYTES: u64 = 2;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field_bytes(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | BYTES, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn field_varint(number: u64, value: u64, out: &mut Vec<u8>) {
    varint(number << 3 | VARINT, out);
    varint(value, out);
}

/// The attributes as fields of a `LogEntry`, made once for a log.
pub(crate) fn attr_fields(attrs: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in attrs {
        let mut attr = Vec::new();
        field_bytes(1, key.as_bytes(), &mut attr);
        field_bytes(2, value.as_bytes(), &mut attr);
        field_bytes(6, &attr, &mut out);
    }
    out
}

/// Appends one record; `attrs` is [`attr_fields`]'.
pub(crate) fn encode(piece: &Piece<'_>, attrs: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    field_bytes(1, piece.stream.as_str().as_bytes(), out);
    field_varint(2, piece.time.0 as u64, out);
    if !piece.bytes.is_empty() {
        field_bytes(3, piece.bytes, out);
    }
    if let End::Part(ordinal) | End::LastPart(ordinal) = piece.end {
        field_varint(4, 1, out);
        let mut part = Vec::with_capacity(32);
        if piece.ends_line() {
            field_varint(1, 1, &mut part);
        }
        // parts of one line share their time, so it tells them from those of another
        field_bytes(2, format!("{:016x}", piece.time.0).as_bytes(), &mut part);
        field_varint(3, u64::from(ordinal), &mut part);
        field_bytes(5, &part, out);
    }
    out.extend_from_slice(attrs);
    let len = ((out.len() - start - 4) as u32).to_be_bytes();
    out[start..start + 4].copy_from_slice(&len);
    out.extend_from_slice(&len);
}

/// The length of the record that begins `buffer`, both length fields included; `None` if it is damaged.
fn framed(buffer: &[u8]) -> Option<usize> {
    let len = u32::from_be_bytes(*buffer.first_chunk()?) as usize;
    (len <= MAX_RECORD).then_some(len + 8)
}

pub(crate) fn decode(buffer: &[u8]) -> Decoded {
    if buffer.len() < 4 {
        return Decoded::Incomplete;
    }
    // there is no mark to look for after damage: the rest of the file cannot be told apart
    let Some(total) = framed(buffer) else { return Decoded::Damaged(buffer.len()) };
    let Some(record) = buffer.get(..total) else { return Decoded::Incomplete };
    if record[total - 4..] != record[..4] {
        return Decoded::Damaged(buffer.len());
    }
    match entry(&record[4..total - 4]) {
        Some(record) => Decoded::Record(record, total),
        None => Decoded::Damaged(total),
    }
}

/// The length of the record that ends `buffer`, if its two lengths agree.
pub(crate) fn last_len(end: [u8; 4]) -> Option<u64> {
    let len = u32::from_be_bytes(end) as usize;
    (len <= MAX_RECORD).then_some(len as u64 + 8)
}

struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    /// `None` at damage; `Some(None)` at the end.
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.number()?;
        let value = match key & 7 {
            VARINT => Value::Number(self.number()?),
            BYTES => {
                let len = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.bytes(len)?)
            }
            1 => Value::Bytes(self.bytes(8)?),
            5 => Value::Bytes(self.bytes(4)?),
            _ => return None,
        };
        Some(Some((key >> 3, value)))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn entry(bytes: &[u8]) -> Option<Record> {
    let (mut stream, mut time, mut line) = (Stream::Stdout, Stamp(0), Vec::new());
    let (mut partial, mut last, mut attrs) = (false, false, BTreeMap::new());
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(b)) => stream = Stream::from_word(b).unwrap_or(Stream::Stdout),
            (2, Value::Number(n)) => time = Stamp(n as i64),
            (3, Value::Bytes(b)) => line = b.to_vec(),
            (4, Value::Number(n)) => partial = n != 0,
            (5, Value::Bytes(b)) => {
                let mut part = Fields(b);
                while let Some((number, value)) = part.next()? {
                    if let (1, Value::Number(n)) = (number, value) {
                        last = n != 0;
                    }
                }
            }
            (6, Value::Bytes(b)) => {
                let (mut key, mut val) = (String::new(), String::new());
                let mut attr = Fields(b);
                while let Some((number, value)) = attr.next()? {
                    match (number, value) {
                        (1, Value::Bytes(b)) => key = text(b),
                        (2, Value::Bytes(b)) => val = text(b),
                        _ => {}
                    }
                }
                attrs.insert(key, val);
            }
            _ => {}
        }
    }
    if !partial || last {
        line.push(b'\n');
    }
    Some(Record { time, stream, line, attrs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(bytes: &[u8], end: End) -> Piece<'_> {
        Piece { bytes, stream: Stream::Stderr, time: Stamp(1_700_000_000_123_456_789), end }
    }

    #[test]
    fn a_record_is_dockers_bytes() {
        let mut out = Vec::new();
        encode(&piece(b"hi", End::Line), b"", &mut out);
        let body = b"\x0a\x06stderr\x10\x95\x9a\x97\xec\xe3\x9f\xe7\xcb\x17\x1a\x02hi";
        let mut wanted = (body.len() as u32).to_be_bytes().to_vec();
        wanted.extend_from_slice(body);
        wanted.extend_from_slice(&(body.len() as u32).to_be_bytes());
        assert_eq!(out, wanted);
    }

    #[test]
    fn parts_and_attributes_are_read_back() {
        let attrs = BTreeMap::from([("tag".to_owned(), "t".to_owned())]);
        for (end, line) in [(End::Line, &b"hi\n"[..]), (End::Part(1), b"hi"), (End::LastPart(2), b"hi\n")] {
            let mut out = Vec::new();
            encode(&piece(b"hi", end), &attr_fields(&attrs), &mut out);
            let Decoded::Record(record, used) = decode(&out) else { panic!("no record") };
            assert_eq!(used, out.len());
            assert_eq!(
                (record.line.as_slice(), &record.attrs, record.stream),
                (line, &attrs, Stream::Stderr)
            );
            assert_eq!(last_len(*out.last_chunk().unwrap()), Some(out.len() as u64));
            assert!(matches!(decode(&out[..out.len() - 1]), Decoded::Incomplete));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
            let _ = entry(&bytes);
        }
    }
}
