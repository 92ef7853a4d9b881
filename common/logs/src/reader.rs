//! Reading a log back, across rotations before and during the reading.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::tail::{self, Last};
use crate::{Decoded, Format, Record, rotate};

const BLOCK: usize = 64 * 1024;

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record there is.
    Oldest,
    /// With the last so many records.
    Tail(u64),
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log {}: read: {source}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A log being read. The files are held open, so that a rotation takes nothing away from under it.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    format: Format,
    current: Option<Source>,
    /// Files after the current one, oldest first.
    later: VecDeque<Source>,
    buffer: Vec<u8>,
    used: usize,
    damaged: u64,
}

#[derive(Debug)]
struct Source {
    file: File,
    /// Device and inode: paths move on with rotations.
    id: (u64, u64),
    position: u64,
}

impl Reader {
    /// Opens the log's files. A log that does not exist yet reads as empty.
    ///
    /// # Errors
    /// If a file that exists cannot be opened or read.
    pub fn open(path: &Path, format: Format, start: Start) -> Result<Reader, ReadError> {
        let mut reader = Reader {
            path: path.to_owned(),
            format,
            current: None,
            later: VecDeque::new(),
            buffer: Vec::new(),
            used: 0,
            damaged: 0,
        };
        let mut sources = newest_first(path, None).map_err(|e| reader.failed(e))?;
        if let Start::Tail(n) = start {
            let kept = to_last(&mut sources, format, n).map_err(|e| reader.failed(e))?;
            sources.truncate(kept);
        }
        reader.later = sources.into_iter().rev().collect();
        Ok(reader)
    }

    /// The next record, or `None` when there is none now: call again when a file of the log has changed.
    /// Damaged records are passed over.
    ///
    /// # Errors
    /// If a file cannot be read.
    #[allow(clippy::should_implement_trait)] // it may give records again after None
    pub fn next(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            match self.format.decode(&self.buffer[self.used..]) {
                Decoded::Record(record, len) => {
                    self.used += len;
                    return Ok(Some(record));
                }
                Decoded::Damaged(len) => {
                    self.used += len;
                    self.damaged += 1;
                }
                Decoded::Incomplete => {
                    let more = self.fill().map_err(|e| self.failed(e))?;
                    if !more && !self.advance().map_err(|e| self.failed(e))? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Damaged records passed over so far.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    fn failed(&self, source: io::Error) -> ReadError {
        ReadError { path: self.path.clone(), source }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let Some(source) = &mut self.current else { return Ok(false) };
        self.buffer.drain(..self.used);
        self.used = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + BLOCK, 0);
        let read = source.file.read_at(&mut self.buffer[held..], source.position);
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        source.position += *read.as_ref().unwrap_or(&0) as u64;
        read.map(|n| n > 0)
    }

    /// At the end of the current file: goes to the one after it, if there is one.
    fn advance(&mut self) -> io::Result<bool> {
        if self.later.is_empty() {
            let mut newer = newest_first(&self.path, self.current.as_ref().map(|c| c.id))?;
            if newer.is_empty() {
                return Ok(false);
            }
            newer.reverse();
            self.later = newer.into();
            // what was written between the last read and the rotation
            if self.fill()? {
                return Ok(true);
            }
        }
        self.current = self.later.pop_front();
        self.buffer.clear();
        self.used = 0;
        Ok(true)
    }
}

/// Opens the files newer than the one called `until`, newest first. In this order a rotation under way can
/// only show a file twice, never hide one.
fn newest_first(path: &Path, until: Option<(u64, u64)>) -> io::Result<Vec<Source>> {
    let mut found: Vec<Source> = Vec::new();
    for path in rotate::files(path) {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let meta = file.metadata()?;
        let id = (meta.dev(), meta.ino());
        if until == Some(id) {
            break;
        }
        if found.iter().all(|source| source.id != id) {
            found.push(Source { file, id, position: 0 });
        }
    }
    Ok(found)
}

/// Sets positions so that the last `n` records are left; returns how many of the files hold them.
fn to_last(newest_first: &mut [Source], format: Format, n: u64) -> io::Result<usize> {
    let mut left = n;
    for (i, source) in newest_first.iter_mut().enumerate() {
        let size = source.file.metadata()?.len();
        match tail::last(&source.file, format, size, left)? {
            Last::At(position) => {
                source.position = position;
                return Ok(i + 1);
            }
            Last::Only(has) => left -= has,
        }
    }
    Ok(newest_first.len())
}
