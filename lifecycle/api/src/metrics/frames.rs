//! Counting the messages in a stream of gRPC frames (a byte of flags, four of length, the message).

/// Where in a frame the stream is.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes of the prefix seen, and the length they say so far.
    prefix: usize,
    length: u32,
    /// Bytes of the message still to come.
    left: usize,
}

impl Frames {
    /// How many messages begin in this piece of the stream.
    pub(super) fn count(&mut self, mut piece: &[u8]) -> u64 {
        let mut begun = 0;
        loop {
            let skipped = self.left.min(piece.len());
            piece = &piece[skipped..];
            self.left -= skipped;
            let Some((byte, rest)) = piece.split_first() else { return begun };
            piece = rest;
            self.prefix += 1;
            if self.prefix > 1 {
                self.length = self.length << 8 | u32::from(*byte);
            }
            if self.prefix == 5 {
                begun += 1;
                self.left = self.length as usize;
                (self.prefix, self.length) = (0, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for length in [0u32, 1, 300, 0] {
            stream.push(0);
            stream.extend(length.to_be_bytes());
            stream.extend(vec![0xff; length as usize]);
        }
        for size in [1, 2, 3, 7, 64, stream.len()] {
            let mut frames = Frames::default();
            let counted: u64 = stream.chunks(size).map(|piece| frames.count(piece)).sum();
            assert_eq!(counted, 4, "in pieces of {size}");
        }
        assert_eq!(Frames::default().count(&[]), 0);
    }
}
