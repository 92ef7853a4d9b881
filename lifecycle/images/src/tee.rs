//! Bytes that come over the network, as a blocking reader that stores them in passing.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use lifecycle_content::{ContentError, Writer};
use tokio::sync::mpsc::Receiver;

/// What the fetching side hands over. Without the end the stream was broken off.
pub(crate) enum Piece {
    Bytes(Bytes),
    End,
}

/// Reads what comes; each byte is in the ingest before it is handed on.
pub(crate) struct Tee {
    incoming: Receiver<Piece>,
    piece: Bytes,
    ended: bool,
    writer: Writer,
    failed: Option<ContentError>,
}

impl Tee {
    pub fn new(incoming: Receiver<Piece>, writer: Writer) -> Self {
        Tee { incoming, piece: Bytes::new(), ended: false, writer, failed: None }
    }

    /// Takes the rest of the stream, then gives the ingest, which has all of it.
    pub fn finish(mut self) -> Result<Writer, io::Error> {
        while self.next()? {
            self.piece = Bytes::new();
        }
        Ok(self.writer)
    }

    /// Why storing failed, where it did.
    pub fn failure(self) -> Option<ContentError> {
        self.failed
    }

    /// Waits for the next piece and stores it. False at the end.
    fn next(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        match self.incoming.blocking_recv() {
            Some(Piece::Bytes(bytes)) => {
                if let Err(error) = self.writer.write(&bytes) {
                    let told = io::Error::other(error.to_string());
                    self.failed = Some(error);
                    return Err(told);
                }
                self.piece = bytes;
                Ok(true)
            }
            Some(Piece::End) => {
                self.ended = true;
                Ok(false)
            }
            None => Err(io::Error::other("the download was broken off")),
        }
    }
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if !self.next()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
