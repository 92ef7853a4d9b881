//! A body that arrives in pieces as a blocking reader, with the compression of the whole archive undone.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::LoadError;

pub(super) fn truncated() -> LoadError {
    LoadError::Archive("unexpected EOF".into())
}

pub(super) fn unreadable(error: &io::Error) -> LoadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => truncated(),
        _ => LoadError::Archive(error.to_string()),
    }
}

fn read_some(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, LoadError> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(|e| unreadable(&e)),
        }
    }
}

/// Bytes that arrive on a channel, as a blocking reader.
pub(super) struct ChannelReader {
    chunks: mpsc::Receiver<Result<Bytes, String>>,
    current: Bytes,
}

impl ChannelReader {
    pub fn new(chunks: mpsc::Receiver<Result<Bytes, String>>) -> Self {
        Self { chunks, current: Bytes::new() }
    }
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(reason)) => return Err(io::Error::other(reason)),
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Undoes the compression of the whole archive, told by its first bytes.
pub(super) fn inflated(mut raw: ChannelReader) -> Result<Box<dyn Read>, LoadError> {
    let mut magic = [0u8; 6];
    let mut length = 0;
    while length < magic.len() {
        match read_some(&mut raw, &mut magic[length..])? {
            0 => break,
            more => length += more,
        }
    }
    let whole = Read::chain(io::Cursor::new(magic[..length].to_vec()), raw);
    match magic {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::read::MultiGzDecoder::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Ok(Box::new(zstd::stream::read::Decoder::new(whole).map_err(|e| unreadable(&e))?))
        }
        [b'B', b'Z', b'h', ..] => Err(LoadError::Archive("bzip2 compression is not supported".into())),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            Err(LoadError::Archive("xz compression is not supported".into()))
        }
        _ if length == 0 => Err(LoadError::Archive("it is empty".into())),
        _ => Ok(Box::new(whole)),
    }
}
