//! CRI log lines: `<RFC3339Nano> <stream> <P|F> <bytes>`.

use std::collections::BTreeMap;

use crate::lines::Piece;
use crate::time::Printer;
use crate::{Record, Stamp, Stream};

/// Appends one line.
pub(crate) fn encode(piece: &Piece<'_>, printer: &mut Printer, out: &mut Vec<u8>) {
    printer.print(piece.time, out);
    out.push(b' ');
    out.extend_from_slice(piece.stream.as_str().as_bytes());
    out.extend_from_slice(if piece.ends_line() { b" F " } else { b" P " });
    out.extend_from_slice(piece.bytes);
    out.push(b'\n');
}

/// Reads one line without its newline.
pub(crate) fn decode(line: &[u8]) -> Option<Record> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = Stamp::parse(parts.next()?).ok()?;
    let stream = Stream::from_word(parts.next()?)?;
    // tags may be followed by others behind a colon; the first says whether the line is whole
    let full = match parts.next()?.split(|b| *b == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let mut line = parts.next().unwrap_or_default().to_vec();
    if full {
        line.push(b'\n');
    }
    Some(Record { time, stream, line, attrs: BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::End;

    #[test]
    fn lines_are_the_kubelets_and_read_back() {
        let time = Stamp(1_700_000_000_120_000_000);
        let mut out = Vec::new();
        let mut printer = Printer::default();
        encode(
            &Piece { bytes: b"a b", stream: Stream::Stdout, time, end: End::Part(1) },
            &mut printer,
            &mut out,
        );
        encode(&Piece { bytes: b"", stream: Stream::Stderr, time, end: End::Line }, &mut printer, &mut out);
        assert_eq!(out, b"2023-11-14T22:13:20.12Z stdout P a b\n2023-11-14T22:13:20.12Z stderr F \n");
        let mut lines = out.split(|b| *b == b'\n');
        let first = decode(lines.next().unwrap()).unwrap();
        assert_eq!(
            (first.line.as_slice(), first.stream, first.is_partial()),
            (&b"a b"[..], Stream::Stdout, true)
        );
        assert_eq!(decode(lines.next().unwrap()).unwrap().line, b"\n");
    }
}
