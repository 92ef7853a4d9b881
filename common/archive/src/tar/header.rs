//! One 512-byte header.

use super::TarError;

pub(super) const BLOCK: usize = 512;

pub(super) struct Header([u8; BLOCK]);

impl Header {
    /// `None` if the checksum is wrong.
    pub(super) fn parse(block: [u8; BLOCK]) -> Option<Header> {
        let wanted = number(&block[148..156])?;
        // the sum counts the checksum field as spaces; some old programs summed signed bytes
        let sum = |value: fn(u8) -> i64| -> i64 {
            block
                .iter()
                .enumerate()
                .map(|(i, &b)| value(if (148..156).contains(&i) { b' ' } else { b }))
                .sum()
        };
        let is_right = sum(i64::from) == wanted || sum(|b| i64::from(b.cast_signed())) == wanted;
        is_right.then_some(Header(block))
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    /// The name, with the prefix that only POSIX headers have.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let is_posix = self.0[257..263] == *b"ustar\0";
        let prefix = text(&self.0[345..500]);
        if !is_posix || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self, at: u64) -> Result<u32, TarError> {
        self.unsigned(100..108, "mode", at).map(|mode| mode as u32)
    }

    pub(super) fn uid(&self, at: u64) -> Result<u64, TarError> {
        self.unsigned(108..116, "user id", at)
    }

    pub(super) fn gid(&self, at: u64) -> Result<u64, TarError> {
        self.unsigned(116..124, "group id", at)
    }

    pub(super) fn size(&self, at: u64) -> Result<u64, TarError> {
        self.unsigned(124..136, "size", at)
    }

    pub(super) fn mtime(&self, at: u64) -> Result<i64, TarError> {
        number(&self.0[136..148]).ok_or(TarError::Field { field: "time", at })
    }

    pub(super) fn device(&self, at: u64) -> Result<(u32, u32), TarError> {
        let part = |range| {
            let value = self.unsigned(range, "device number", at)?;
            u32::try_from(value).map_err(|_| TarError::Field { field: "device number", at })
        };
        Ok((part(329..337)?, part(337..345)?))
    }

    /// GNU's own sparse header: up to four chunks, whether more follow, and the size of the finished file.
    pub(super) fn gnu_sparse(&self, at: u64) -> Result<(Vec<(u64, u64)>, bool, u64), TarError> {
        let size = self.unsigned(483..495, "sparse size", at)?;
        Ok((gnu_chunks(&self.0[386..482], at)?, self.0[482] != 0, size))
    }

    fn unsigned(&self, range: std::ops::Range<usize>, field: &'static str, at: u64) -> Result<u64, TarError> {
        let value = number(&self.0[range]).ok_or(TarError::Field { field, at })?;
        u64::try_from(value).map_err(|_| TarError::Field { field, at })
    }
}

/// Pairs of offset and length, 12 bytes each; an empty pair ends them.
pub(super) fn gnu_chunks(bytes: &[u8], at: u64) -> Result<Vec<(u64, u64)>, TarError> {
    let mut chunks = Vec::new();
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        let part = |bytes| {
            let value = number(bytes).and_then(|n| u64::try_from(n).ok());
            value.ok_or(TarError::Sparse { why: "malformed number", at })
        };
        chunks.push((part(&pair[..12])?, part(&pair[12..])?));
    }
    Ok(chunks)
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    &field[..end]
}

/// An octal number between spaces and zero bytes, empty meaning 0; or base 256 if the first bit is set.
fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let start: i128 = if negative { -1 } else { 0 };
        let top = i128::from(first & 0x3f) | if negative { start << 6 } else { 0 };
        let mut value = top;
        for &byte in rest {
            value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        }
        return i64::try_from(value).ok();
    }
    let is_padding = |b: &u8| *b == b' ' || *b == 0;
    let digits: Vec<u8> =
        field.iter().copied().skip_while(is_padding).take_while(|b| !is_padding(b)).collect();
    let mut value: i64 = 0;
    for digit in digits {
        let digit = char::from(digit).to_digit(8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"    644 "), Some(0o644));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(number(b"77777777777\0"), Some(0o77777777777));
        assert_eq!(number(b"0000008\0"), None);
        let mut big = [0u8; 12];
        big[0] = 0x80;
        big[11] = 5;
        big[6] = 2;
        assert_eq!(number(&big), Some((2 << 40) + 5));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xbf; 12]), None);
    }
}
