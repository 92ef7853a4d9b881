//! Sparse files: which parts of the file the stored data is.

use std::io::Read;

use super::header::{BLOCK, Header, gnu_chunks};
use super::pax::{PaxSparse, decimal};
use super::{TarError, TarReader};

/// Chunks of one file; a real one has few, and each costs a system call.
const MAX_CHUNKS: usize = 1 << 16;

/// Chunks in order, none overlapping another or the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SparseMap {
    size: u64,
    /// Offset in the file and length.
    pub(crate) chunks: Vec<(u64, u64)>,
}

impl SparseMap {
    /// `stored` is how much data follows.
    fn new(size: u64, chunks: Vec<(u64, u64)>, stored: u64, at: u64) -> Result<Self, TarError> {
        let error = |why| TarError::Sparse { why, at };
        let mut end = 0u64;
        let mut total = 0u64;
        for &(offset, length) in &chunks {
            if offset < end {
                return Err(error("chunks overlap"));
            }
            end = offset.checked_add(length).ok_or(error("a chunk ends beyond all files"))?;
            total += length;
        }
        if end > size || size > i64::MAX as u64 {
            return Err(error("a chunk lies beyond the end of the file"));
        }
        if total != stored {
            return Err(error("the chunks are not as long as the data"));
        }
        Ok(SparseMap { size, chunks })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl<R: Read> TarReader<R> {
    pub(super) fn read_gnu_sparse(&mut self, header: &Header, at: u64) -> Result<SparseMap, TarError> {
        let (mut chunks, mut more, size) = header.gnu_sparse(at)?;
        while more {
            // these blocks stand between header and data and do not count as data
            let mut block = [0; BLOCK];
            if self.fill(&mut block)? < BLOCK {
                return Err(TarError::Truncated { at: self.at });
            }
            chunks.extend(gnu_chunks(&block[..504], at)?);
            more = block[504] != 0;
            if chunks.len() > MAX_CHUNKS {
                return Err(TarError::Sparse { why: "too many chunks", at });
            }
        }
        SparseMap::new(size, chunks, self.data_left, at)
    }

    pub(super) fn read_pax_sparse(&mut self, sparse: &PaxSparse, at: u64) -> Result<SparseMap, TarError> {
        let size = sparse.size.ok_or(TarError::Sparse { why: "no size of the file", at })?;
        let chunks = if sparse.map_in_data { self.read_map(at)? } else { sparse.chunks.clone() };
        if chunks.len() > MAX_CHUNKS {
            return Err(TarError::Sparse { why: "too many chunks", at });
        }
        SparseMap::new(size, chunks, self.data_left, at)
    }

    /// Version 1.0: the number of chunks, then offsets and lengths, a line each, filled up to whole blocks.
    fn read_map(&mut self, at: u64) -> Result<Vec<(u64, u64)>, TarError> {
        let error = |why| TarError::Sparse { why, at };
        let mut block = [0; BLOCK];
        let mut position = BLOCK;
        let mut next_number = |reader: &mut Self| -> Result<u64, TarError> {
            let mut digits = Vec::with_capacity(20);
            loop {
                if position == BLOCK {
                    reader.read_exact(&mut block)?;
                    position = 0;
                }
                let byte = block[position];
                position += 1;
                if byte == b'\n' {
                    return decimal(&digits).ok_or(error("malformed number"));
                }
                if digits.len() == 20 {
                    return Err(error("malformed number"));
                }
                digits.push(byte);
            }
        };
        let count = next_number(self)?;
        if count > MAX_CHUNKS as u64 {
            return Err(error("too many chunks"));
        }
        (0..count).map(|_| Ok((next_number(self)?, next_number(self)?))).collect()
    }
}
