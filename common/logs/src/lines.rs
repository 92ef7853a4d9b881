//! Cuts a stream's bytes into lines, and lines longer than [`MAX_LINE`] into parts.

use crate::{MAX_LINE, Stamp, Stream};

/// How a piece of a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With the newline of a line that is whole in this piece.
    Line,
    /// Within a line; this is part number so much, from 1.
    Part(u32),
    /// With the newline of a line that had parts before; this is part number so much.
    LastPart(u32),
}

/// What becomes one record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    /// Without the newline.
    pub bytes: &'a [u8],
    pub stream: Stream,
    /// When the line was read; all parts carry the first one's time, as in Docker.
    pub time: Stamp,
    pub end: End,
}

impl Piece<'_> {
    pub(crate) fn ends_line(&self) -> bool {
        !matches!(self.end, End::Part(_))
    }
}

/// One stream's unfinished line.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: Stream,
    /// Bytes of the unfinished line that no piece has carried; under [`MAX_LINE`] of them.
    held: Vec<u8>,
    /// Parts of the unfinished line that went out, and the first one's time.
    parts: Option<(u32, Stamp)>,
}

impl Lines {
    pub(crate) fn new(stream: Stream) -> Self {
        Lines { stream, held: Vec::new(), parts: None }
    }

    /// Takes the next bytes of the stream and gives each finished piece to `emit`.
    pub(crate) fn push(
        &mut self,
        mut chunk: &[u8],
        now: impl Fn() -> Stamp,
        mut emit: impl FnMut(Piece<'_>),
    ) {
        while !chunk.is_empty() {
            let room = MAX_LINE - self.held.len();
            // Docker's buffer is full before it sees the newline after MAX_LINE bytes
            match memchr::memchr(b'\n', &chunk[..chunk.len().min(room)]) {
                Some(at) => {
                    self.emit(&chunk[..at], true, &now, &mut emit);
                    chunk = &chunk[at + 1..];
                }
                None if chunk.len() >= room => {
                    self.emit(&chunk[..room], false, &now, &mut emit);
                    chunk = &chunk[room..];
                }
                None => {
                    self.held.extend_from_slice(chunk);
                    return;
                }
            }
        }
    }

    /// The stream ended: what is held is a part without an end.
    pub(crate) fn finish(&mut self, now: impl Fn() -> Stamp, mut emit: impl FnMut(Piece<'_>)) {
        if !self.held.is_empty() {
            self.emit(b"", false, &now, &mut emit);
        }
        *self = Lines::new(self.stream);
    }

    fn emit(&mut self, tail: &[u8], ends: bool, now: &impl Fn() -> Stamp, emit: &mut impl FnMut(Piece<'_>)) {
        let (before, time) = self.parts.unwrap_or_else(|| (0, now()));
        let part = before.saturating_add(1);
        let end = match (ends, before) {
            (true, 0) => End::Line,
            (true, _) => End::LastPart(part),
            (false, _) => End::Part(part),
        };
        self.parts = (!ends).then_some((part, time));
        if self.held.is_empty() {
            emit(Piece { bytes: tail, stream: self.stream, time, end });
        } else {
            self.held.extend_from_slice(tail);
            emit(Piece { bytes: &self.held, stream: self.stream, time, end });
            self.held.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(Vec<u8>, End)> {
        let mut lines = Lines::new(Stream::Stdout);
        let mut out = Vec::new();
        for chunk in chunks {
            lines.push(chunk, || Stamp(7), |p| out.push((p.bytes.to_vec(), p.end)));
        }
        lines.finish(|| Stamp(7), |p| out.push((p.bytes.to_vec(), p.end)));
        out
    }

    #[test]
    fn lines_come_whole_whatever_the_reads_were() {
        let whole = cut(&[b"one\ntwo\n\nlast"]);
        assert_eq!(
            whole,
            [
                (b"one".to_vec(), End::Line),
                (b"two".to_vec(), End::Line),
                (b"".to_vec(), End::Line),
                (b"last".to_vec(), End::Part(1)),
            ]
        );
        assert_eq!(cut(&[b"on", b"e\nt", b"wo", b"\n\nla", b"st"]), whole);
    }

    #[test]
    fn a_line_of_exactly_the_buffer_is_a_part_and_an_empty_end() {
        let mut text = vec![b'a'; MAX_LINE];
        text.push(b'\n');
        let pieces = cut(&[&text]);
        assert_eq!(pieces.len(), 2);
        assert_eq!((pieces[0].0.len(), pieces[0].1), (MAX_LINE, End::Part(1)));
        assert_eq!(pieces[1], (Vec::new(), End::LastPart(2)));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_added_or_moved(
            lines in proptest::collection::vec(0usize..40_000, 0..6), cuts in proptest::collection::vec(1usize..30_000, 1..20),
        ) {
            let mut text = Vec::new();
            for (i, len) in lines.iter().enumerate() {
                text.extend(std::iter::repeat_n(b'a' + i as u8, *len));
                text.push(b'\n');
            }
            let mut chunks = Vec::new();
            let mut rest = &text[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(head);
                rest = tail;
            }
            let mut joined = Vec::new();
            for (bytes, end) in cut(&chunks) {
                prop_assert!(bytes.len() <= MAX_LINE);
                joined.extend_from_slice(&bytes);
                if !matches!(end, End::Part(_)) { joined.push(b'\n'); }
            }
            prop_assert_eq!(joined, text);
        }
    }
}
