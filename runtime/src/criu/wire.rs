//! Protobuf's encoding, as much as CRIU's messages have of it: varints and byte strings.

/// A message under construction; fields by their numbers.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    pub fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        self.number(field, value.into())
    }

    pub fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
        self
    }

    pub fn message(&mut self, field: u32, value: &Message) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.0.len() as u64);
        self.0.extend_from_slice(&value.0);
        self
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The value of a field that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Number(n) => Some(n),
            Self::Bytes(_) => None,
        }
    }

    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(b) => Some(b),
            Self::Number(_) => None,
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The fields of a message in their order; None if it is malformed.
pub fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Field::Bytes(value)
            }
            _ => return None,
        };
        out.push((tag >> 3, field));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut m = Message::default();
        m.number(1, 300).text(68, "dir").flag(3, true);
        assert_eq!(m.as_bytes()[..3], [8, 0xac, 2]);
        let fields = fields(m.as_bytes()).unwrap();
        assert_eq!(fields, [(1, Field::Number(300)), (68, Field::Bytes(b"dir")), (3, Field::Number(1))]);
    }

    #[test]
    fn cut_and_overlong_messages_are_refused() {
        for bad in [&[8][..], &[10, 5, 1], &[0xff; 11], &[9, 0, 0], &[10, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert_eq!(fields(bad), None, "{bad:?}");
        }
    }
}
