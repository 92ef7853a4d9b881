//! Docker's json-file records.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::lines::Piece;
use crate::time::Printer;
use crate::{Record, Stamp, Stream};

/// Appends one record. `attrs` is the attributes' JSON object, or empty.
pub(crate) fn encode(piece: &Piece<'_>, attrs: &[u8], printer: &mut Printer, out: &mut Vec<u8>) {
    out.push(b'{');
    if !piece.bytes.is_empty() || piece.ends_line() {
        out.extend_from_slice(b"\"log\":\"");
        escape(piece.bytes, out);
        if piece.ends_line() {
            out.extend_from_slice(b"\\n");
        }
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"stream\":\"");
    out.extend_from_slice(piece.stream.as_str().as_bytes());
    out.push(b'"');
    if !attrs.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attrs);
    }
    out.extend_from_slice(b",\"time\":\"");
    printer.print(piece.time, out);
    out.extend_from_slice(b"\"}\n");
}

/// Whether a byte stands for itself whatever is around it.
const fn is_plain(b: u8) -> bool {
    // no short-circuit, so that whole blocks are compared at once
    (b >= 0x20) & (b < 0x80) & (b != b'"') & (b != b'\\') & (b != b'<') & (b != b'>') & (b != b'&')
}

/// The length of the beginning that is plain.
fn plain_len(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let blocks = bytes.chunks_exact(BLOCK);
    let whole =
        blocks.take_while(|block| block.iter().fold(true, |all, b| all & is_plain(*b))).count() * BLOCK;
    let rest = &bytes[whole..];
    whole + rest.iter().position(|b| !is_plain(*b)).unwrap_or(rest.len())
}

/// Escapes as Docker's encoder: `<`, `>` and `&` too, control characters other than `\n` and `\r` as
/// `\u00xx`, each byte that is not UTF-8 as `\ufffd`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    loop {
        let (plain, other) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        match other.first() {
            None => return,
            Some(b) if b.is_ascii() => {
                escape_ascii(*b, out);
                rest = &other[1..];
            }
            Some(_) => {
                // characters beyond ASCII have no ASCII byte within
                let end = other.iter().position(u8::is_ascii).unwrap_or(other.len());
                for chunk in other[..end].utf8_chunks() {
                    escape_text(chunk.valid(), out);
                    for _ in chunk.invalid() {
                        out.extend_from_slice(b"\\ufffd");
                    }
                }
                rest = &other[end..];
            }
        }
    }
}

fn escape_ascii(b: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match b {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

/// Go escapes the two line separators of Unicode.
fn escape_text(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find(['\u{2028}', '\u{2029}']) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let first = rest[at..].starts_with('\u{2028}');
        out.extend_from_slice(if first { b"\\u2028" } else { b"\\u2029" });
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest.as_bytes());
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default, borrow)]
    log: Cow<'a, str>,
    #[serde(default, borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// Reads one record without its newline.
pub(crate) fn decode(line: &[u8]) -> Option<Record> {
    let wire: Wire<'_> = serde_json::from_slice(line).ok()?;
    Some(Record {
        time: Stamp::parse(wire.time.as_bytes()).ok()?,
        // Docker's reader lets a record without a stream pass as stdout
        stream: Stream::from_word(wire.stream.as_bytes()).unwrap_or(Stream::Stdout),
        line: wire.log.into_owned().into_bytes(),
        attrs: wire.attrs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::End;
    use proptest::prelude::*;

    fn text(bytes: &[u8], end: End, attrs: &[u8]) -> String {
        let piece = Piece { bytes, stream: Stream::Stderr, time: Stamp(1_700_000_000_120_000_000), end };
        let mut out = Vec::new();
        encode(&piece, attrs, &mut Printer::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_dockers_bytes() {
        assert_eq!(
            text(b"hi", End::Line, b""),
            "{\"log\":\"hi\\n\",\"stream\":\"stderr\",\"time\":\"2023-11-14T22:13:20.12Z\"}\n"
        );
        assert_eq!(
            text(b"hi", End::Part(1), b"{\"tag\":\"t\"}"),
            "{\"log\":\"hi\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"t\"},\"time\":\"2023-11-14T22:13:20.12Z\"}\n"
        );
    }

    #[test]
    fn escapes_are_dockers() {
        let line = text(b"\t\x01\"\\<&>\r\x7f\xff\xe2\x82 \xe2\x80\xa8\xe2\x82\xac", End::Line, b"");
        assert!(
            line.contains(
                "\\u0009\\u0001\\\"\\\\\\u003c\\u0026\\u003e\\r\x7f\\ufffd\\ufffd\\ufffd \\u2028\u{20ac}\\n"
            ),
            "{line}"
        );
    }

    #[test]
    fn a_torn_record_is_none() {
        assert!(decode(b"{\"log\":\"abc").is_none());
        assert!(decode(b"").is_none());
    }

    proptest! {
        #[test]
        fn text_is_read_back(line in "\\PC{0,80}") {
            let record = decode(text(line.as_bytes(), End::Line, b"").trim_end().as_bytes()).unwrap();
            prop_assert_eq!(record.line, format!("{line}\n").into_bytes());
        }
    }
}
