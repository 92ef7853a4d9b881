//! Reading tar archives: ustar, GNU and PAX, entry by entry, everything bounded.
//!
//! Header layouts are POSIX.1-2001's and GNU tar's. What only a listing would need (user names, access times) is
//! not read.

mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead, Read};

use wharf_kinds::Kind;

use header::{BLOCK, Header};
use pax::Pax;
pub(crate) use sparse::SparseMap;

/// Extended headers and long names may have this many bytes (Go's reader has the same bound).
const MAX_SPECIAL: u64 = 1 << 20;

/// Extended headers in a row before one entry.
const MAX_SPECIALS_IN_A_ROW: u32 = 16;

/// Bytes of a path or link target; the kernel takes no longer one.
const MAX_NAME: usize = 4095;

/// Why an archive cannot be read. Positions are bytes from the beginning of the uncompressed archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("read the archive at byte {at}: {source}")]
    Io { at: u64, source: io::Error },
    #[error("the archive ends in the middle of an entry, at byte {at}")]
    Truncated { at: u64 },
    #[error("not a tar archive, or damaged: wrong checksum of the header at byte {at}")]
    Checksum { at: u64 },
    #[error("malformed {field} in the header at byte {at}")]
    Field { field: &'static str, at: u64 },
    #[error("{what} of {size} bytes in the header at byte {at}: at most {most} are taken")]
    TooLarge { what: &'static str, size: u64, most: u64, at: u64 },
    #[error("malformed extended header at byte {at}: {why}")]
    Pax { why: &'static str, at: u64 },
    #[error("malformed sparse map at byte {at}: {why}")]
    Sparse { why: &'static str, at: u64 },
    #[error("entry of unknown type {kind:?} at byte {at}")]
    Type { kind: char, at: u64 },
}

impl TarError {
    pub fn kind(&self) -> Kind {
        match self {
            TarError::Io { source, .. } => match source.kind() {
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    Kind::InvalidArgument
                }
                _ => Kind::of_io(source),
            },
            _ => Kind::InvalidArgument,
        }
    }
}

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry's metadata; its data is read from the [`TarReader`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: EntryKind,
    /// As it stands in the archive.
    pub path: Vec<u8>,
    /// Target of a link, as it stands in the archive.
    pub link: Vec<u8>,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch, which may be before it, and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number.
    pub device: (u32, u32),
    /// Bytes of the finished file.
    pub size: u64,
    /// Extended attributes, in order of names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where in the file the data goes, if not all of it is there.
    pub(crate) sparse: Option<SparseMap>,
}

/// An archive being read.
pub struct TarReader<R> {
    input: R,
    at: u64,
    /// Bytes of the present entry's data not read yet, and of the padding behind it.
    data_left: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub fn new(input: R) -> Self {
        TarReader { input, at: 0, data_left: 0, padding: 0 }
    }

    /// The next entry, passing over what is left of the present one. `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pax = Pax::default();
        let mut long_path = None;
        let mut long_link = None;
        for _ in 0..=MAX_SPECIALS_IN_A_ROW {
            self.finish_entry()?;
            let at = self.at;
            let Some(header) = self.read_header()? else { return Ok(None) };
            match header.kind() {
                b'x' | b'X' => {
                    let records = self.read_special(&header, "an extended header")?;
                    pax = Pax::parse(&records, at)?;
                }
                // for the whole archive: comments of git, nothing that layers use
                b'g' => {
                    self.read_special(&header, "a global header")?;
                }
                b'L' => long_path = Some(self.read_long_name(&header)?),
                b'K' => long_link = Some(self.read_long_name(&header)?),
                _ => return self.entry(&header, pax, long_path, long_link, at).map(Some),
            }
        }
        Err(TarError::Pax { why: "too many extended headers before one entry", at: self.at })
    }

    pub(crate) fn get_ref(&self) -> &R {
        &self.input
    }

    /// Gives the rest of the input, so that a digest of it can be finished.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn entry(
        &mut self,
        header: &Header,
        pax: Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        at: u64,
    ) -> Result<Entry, TarError> {
        let sparse_name = pax.sparse.name.clone();
        let path = sparse_name.or(pax.path).or(long_path).unwrap_or_else(|| header.path());
        let link = pax.link.or(long_link).unwrap_or_else(|| header.link());
        for (what, name) in [("a path", &path), ("a link target", &link)] {
            if name.len() > MAX_NAME {
                return Err(TarError::TooLarge { what, size: name.len() as u64, most: MAX_NAME as u64, at });
            }
            if name.contains(&0) {
                return Err(TarError::Field { field: "name", at });
            }
        }
        let is_gnu_sparse = header.kind() == b'S';
        let kind = match header.kind() {
            // old archives mark directories by the slash alone
            b'0' | 0 if path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(TarError::Type { kind: char::from(other), at }),
        };
        let stored = match pax.size {
            Some(size) => size,
            None => header.size(at)?,
        };
        // whatever the size field says, only files have data
        let stored = if kind == EntryKind::File { stored } else { 0 };
        if stored > i64::MAX as u64 {
            return Err(TarError::Field { field: "size", at });
        }
        self.data_left = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        let sparse = if is_gnu_sparse {
            Some(self.read_gnu_sparse(header, at)?)
        } else if kind == EntryKind::File && pax.sparse.is_present() {
            Some(self.read_pax_sparse(&pax.sparse, at)?)
        } else {
            None
        };
        let size = sparse.as_ref().map_or(stored, SparseMap::size);
        let id = |given: Option<u64>, field: &'static str, own: &dyn Fn() -> Result<u64, TarError>| {
            let id = given.map_or_else(own, Ok)?;
            // the highest number means "unchanged" to chown
            u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(TarError::Field { field, at })
        };
        Ok(Entry {
            kind,
            path,
            link,
            mode: header.mode(at)? & 0o7777,
            uid: id(pax.uid, "user id", &|| header.uid(at))?,
            gid: id(pax.gid, "group id", &|| header.gid(at))?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => (header.mtime(at)?, 0),
            },
            device: match kind {
                EntryKind::CharDevice | EntryKind::BlockDevice => header.device(at)?,
                _ => (0, 0),
            },
            size,
            xattrs: pax.xattrs,
            sparse,
        })
    }

    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        let at = self.at;
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            0 => return Ok(None),
            BLOCK => {}
            _ => return Err(TarError::Truncated { at: self.at }),
        }
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        Header::parse(block).ok_or(TarError::Checksum { at }).map(Some)
    }

    fn read_special(&mut self, header: &Header, what: &'static str) -> Result<Vec<u8>, TarError> {
        let at = self.at;
        let size = header.size(at)?;
        if size > MAX_SPECIAL {
            return Err(TarError::TooLarge { what, size, most: MAX_SPECIAL, at });
        }
        self.data_left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        let mut content = vec![0; size as usize];
        self.read_exact(&mut content)?;
        Ok(content)
    }

    fn read_long_name(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let mut name = self.read_special(header, "a long name")?;
        if let Some(end) = name.iter().position(|&b| b == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    /// Passes over the rest of the present entry.
    fn finish_entry(&mut self) -> Result<(), TarError> {
        let mut scratch = [0; 8 << 10];
        while self.data_left + self.padding > 0 {
            let wanted = (self.data_left + self.padding).min(scratch.len() as u64) as usize;
            let count = self.fill(&mut scratch[..wanted])?;
            let count_data = (count as u64).min(self.data_left);
            self.data_left -= count_data;
            self.padding -= count as u64 - count_data;
            if count < wanted {
                // an archive may end without the padding of its last entry, but not within data
                if self.data_left == 0 {
                    self.padding = 0;
                    break;
                }
                return Err(TarError::Truncated { at: self.at });
            }
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.input.read(&mut buffer[done..]) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Io { at: self.at + done as u64, source }),
            }
        }
        self.at += done as u64;
        Ok(done)
    }

    /// Reads exactly this much of the present entry's data.
    pub(crate) fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        if buffer.len() as u64 > self.data_left || self.fill(buffer)? < buffer.len() {
            return Err(TarError::Truncated { at: self.at });
        }
        self.data_left -= buffer.len() as u64;
        Ok(())
    }

    /// Bytes of data that the present entry still has, as stored.
    pub(crate) fn data_left(&self) -> u64 {
        self.data_left
    }
}

impl<R: BufRead> TarReader<R> {
    /// Some of the present entry's data, at most `most` bytes and at least one, in the input's own memory.
    /// [`TarReader::consume_data`] says how much of it was used.
    pub(crate) fn data(&mut self, most: u64) -> Result<&[u8], TarError> {
        let most = usize::try_from(most.min(self.data_left)).unwrap_or(usize::MAX);
        let at = self.at;
        let there = loop {
            match self.input.fill_buf() {
                Ok(bytes) => break bytes.len(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Io { at, source }),
            }
        };
        if there.min(most) == 0 {
            return Err(TarError::Truncated { at });
        }
        let bytes = self.input.fill_buf().map_err(|source| TarError::Io { at, source })?;
        Ok(&bytes[..there.min(most)])
    }

    /// At most as much as [`TarReader::data`] gave.
    pub(crate) fn consume_data(&mut self, count: usize) {
        self.input.consume(count);
        self.at += count as u64;
        self.data_left = self.data_left.saturating_sub(count as u64);
    }
}

/// The data of the present entry, as stored, and its end.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.data_left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, TarError::Truncated { at: self.at }));
        }
        self.at += count as u64;
        self.data_left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
