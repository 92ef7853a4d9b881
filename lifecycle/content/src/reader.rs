//! Reading a blob.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// An open blob. It stays readable if the blob is deleted meanwhile.
#[derive(Debug)]
pub struct Reader {
    file: File,
    size: u64,
}

impl Reader {
    pub(crate) fn new(file: File, size: u64) -> Self {
        Reader { file, size }
    }

    /// Bytes in the whole blob.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills the buffer from `offset` on, or as far as the blob goes. How many bytes that were.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        self.file.read_exact_at(&mut buffer[..wanted], offset)?;
        Ok(wanted)
    }

    /// The whole blob as a stream.
    pub fn into_file(self) -> File {
        self.file
    }
}
