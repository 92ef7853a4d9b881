//! Percent-encoding of paths and query values.

/// Encodes everything but unreserved characters and `/`, so that a path stays readable.
pub(crate) fn encode(bytes: &[u8], into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in bytes {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',') {
            into.push(char::from(b));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(b >> 4)]));
            into.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

/// Decodes; `None` for a `%` that two hex digits do not follow. `+` stays a plus.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(b);
        }
    }
    Some(out)
}
