//! Docker's multiplexed streams: an 8-byte header (stream, three zeros, big-endian length), then the data.

use std::io;

/// Which output a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

/// Splits a multiplexed stream that comes in pieces of any size; frames need no memory of their own.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    header: [u8; 8],
    have: usize,
    /// Bytes of the current frame still to come.
    left: usize,
    /// The text of an error frame, kept until it is whole.
    error: Vec<u8>,
}

const MAX_ERROR_TEXT: usize = 64 << 10;

impl Demux {
    /// Hands every piece of data in `input` to `write`. Errors: of `write`, a stream number that does not
    /// exist, or an error that the daemon sent in the stream.
    pub(crate) fn push(
        &mut self,
        mut input: &[u8],
        mut write: impl FnMut(Output, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while !input.is_empty() {
            if self.left == 0 {
                let take = input.len().min(self.header.len() - self.have);
                self.header[self.have..self.have + take].copy_from_slice(&input[..take]);
                self.have += take;
                input = &input[take..];
                if self.have < self.header.len() {
                    return Ok(());
                }
                let [stream, .., a, b, c, d] = self.header;
                if stream > 3 {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("Unrecognized stream: {stream}"),
                    ));
                }
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.left == 0 {
                    self.have = 0;
                    continue;
                }
            }
            let take = input.len().min(self.left);
            let (data, rest) = input.split_at(take);
            match self.header[0] {
                0 | 1 => write(Output::Stdout, data)?,
                2 => write(Output::Stderr, data)?,
                _ => {
                    let room = MAX_ERROR_TEXT.saturating_sub(self.error.len());
                    self.error.extend_from_slice(&data[..data.len().min(room)]);
                }
            }
            self.left -= take;
            input = rest;
            if self.left == 0 {
                self.have = 0;
                if self.header[0] == 3 {
                    let text = String::from_utf8_lossy(&self.error).into_owned();
                    return Err(io::Error::other(format!("error from daemon in stream: {text}")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
        let mut out = vec![stream, 0, 0, 0];
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn frames_cut_anywhere_come_out_whole() {
        let mut wire = frame(1, b"hello ");
        wire.extend(frame(2, b"oops"));
        wire.extend(frame(1, b""));
        wire.extend(frame(1, b"world"));
        for size in 1..wire.len() {
            let (mut out, mut err, mut demux) = (Vec::new(), Vec::new(), Demux::default());
            for piece in wire.chunks(size) {
                demux
                    .push(piece, |to, data| {
                        if to == Output::Stdout {
                            out.extend(data)
                        } else {
                            err.extend(data)
                        }
                        Ok(())
                    })
                    .expect("well formed");
            }
            assert_eq!(
                (out.as_slice(), err.as_slice()),
                (&b"hello world"[..], &b"oops"[..]),
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn errors_in_the_stream_are_errors() {
        let run = |wire: &[u8]| Demux::default().push(wire, |_, _| Ok(())).expect_err("refused").to_string();
        assert_eq!(run(&frame(3, b"boom")), "error from daemon in stream: boom");
        assert_eq!(run(&frame(9, b"x")), "Unrecognized stream: 9");
    }
}
