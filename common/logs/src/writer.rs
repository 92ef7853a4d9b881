//! The writer: encodes a batch of records into one buffer and writes it with one call.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use crate::lines::{Lines, Piece};
use crate::time::Printer;
use crate::{Format, MAX_RECORD, Stamp, Stream, cri, json, local, rotate};

/// Encoded bytes that make a write due within a batch.
const BATCH: usize = 256 * 1024;
/// Encoded bytes kept while the file cannot be written; records beyond are dropped and counted.
const HELD: usize = 4 * 1024 * 1024;

/// What a log is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The form of its records.
    pub format: Format,
    /// A file of at least this many bytes is rotated before the next record; 0 is no limit.
    pub max_size: u64,
    /// Files kept, the live one included; at least 1.
    pub max_files: u32,
    /// Attributes on each record, in formats that have them.
    pub attrs: BTreeMap<String, String>,
}

/// Why a log could not be written. Nothing is lost by one: what was not written is held, up to 4 MiB, and
/// tried again with the next write.
#[derive(Debug, thiserror::Error)]
#[error("log {}: {act}: {source}", path.display())]
pub struct WriteError {
    /// The log.
    pub path: PathBuf,
    /// `open`, `repair`, `write` or `rotate`.
    pub act: &'static str,
    /// Why.
    pub source: io::Error,
}

/// A log being written: one live file and its rotated ones.
#[derive(Debug)]
pub struct LogFile {
    streams: [Lines; 2],
    sink: Sink,
}

impl LogFile {
    /// Opens the log, making it (mode 0640) and missing folders (mode 0711) as needed. A record that an
    /// earlier writer left unfinished at the end is cut off.
    ///
    /// # Errors
    /// If a folder or the file cannot be made, opened or repaired.
    pub fn open(path: &Path, options: &Options) -> Result<LogFile, WriteError> {
        let failed = |act, source| WriteError { path: path.to_owned(), act, source };
        if let Some(dir) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o711).create(dir);
            made.map_err(|e| failed("open", e))?;
        }
        let file = rotate::open_live(path).map_err(|e| failed("open", e))?;
        let size = repair(&file, options.format).map_err(|e| failed("repair", e))?;
        let attrs = match options.format {
            _ if options.attrs.is_empty() => Vec::new(),
            Format::JsonFile => {
                serde_json::to_vec(&options.attrs).map_err(|e| failed("open", io::Error::other(e)))?
            }
            Format::Local => local::attr_fields(&options.attrs),
            Format::Cri => Vec::new(),
        };
        Ok(LogFile {
            streams: [Lines::new(Stream::Stdout), Lines::new(Stream::Stderr)],
            sink: Sink {
                path: path.to_owned(),
                format: options.format,
                max_size: options.max_size,
                max_files: options.max_files,
                attrs,
                file,
                size,
                rotate_at: options.max_size,
                out: Vec::new(),
                dropped: 0,
                printer: Printer::default(),
            },
        })
    }

    /// Writes what a stream gave: every line that is finished, with one write call for most chunks. The
    /// unfinished end of `chunk` is held for the next.
    ///
    /// # Errors
    /// See [`WriteError`]; the chunk was taken all the same.
    pub fn write(&mut self, stream: Stream, chunk: &[u8]) -> Result<(), WriteError> {
        let LogFile { streams, sink } = self;
        let mut first_error = None;
        streams[stream as usize].push(chunk, moments(), |piece| {
            if let Err(e) = sink.record(&piece) {
                first_error.get_or_insert(e);
            }
        });
        sink.flush().and(first_error.map_or(Ok(()), Err))
    }

    /// The stream ended: an unfinished line is written as a partial record.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn finish(&mut self, stream: Stream) -> Result<(), WriteError> {
        let LogFile { streams, sink } = self;
        let mut first_error = None;
        streams[stream as usize].finish(Stamp::now, |piece| {
            if let Err(e) = sink.record(&piece) {
                first_error.get_or_insert(e);
            }
        });
        sink.flush().and(first_error.map_or(Ok(()), Err))
    }

    /// Records dropped because the file could not be written for too long.
    pub fn dropped(&self) -> u64 {
        self.sink.dropped
    }
}

/// The time of a chunk, a nanosecond later at each call: the clock is read once a chunk, and readers that go on
/// from a time find each record after the last.
fn moments() -> impl Fn() -> Stamp {
    let next = std::cell::Cell::new(Stamp::now().0);
    move || Stamp(next.replace(next.get().saturating_add(1)))
}

#[derive(Debug)]
struct Sink {
    path: PathBuf,
    format: Format,
    max_size: u64,
    max_files: u32,
    /// In the format's own encoding.
    attrs: Vec<u8>,
    file: File,
    /// Bytes in the live file.
    size: u64,
    /// The size at which it is rotated.
    rotate_at: u64,
    /// Encoded, not yet written.
    out: Vec<u8>,
    dropped: u64,
    printer: Printer,
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Printer")
    }
}

impl Sink {
    fn record(&mut self, piece: &Piece<'_>) -> Result<(), WriteError> {
        let mut result = Ok(());
        let size = self.size + self.out.len() as u64;
        if self.max_size > 0 && size >= self.rotate_at {
            result = self.rotate();
        }
        if self.out.len() >= HELD {
            self.dropped += 1;
            return result;
        }
        match self.format {
            Format::JsonFile => json::encode(piece, &self.attrs, &mut self.printer, &mut self.out),
            Format::Cri => cri::encode(piece, &mut self.printer, &mut self.out),
            Format::Local => local::encode(piece, &self.attrs, &mut self.out),
        }
        if self.out.len() >= BATCH && self.out.len() < HELD / 2 { result.and(self.flush()) } else { result }
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let mut written = 0;
        let mut result = Ok(());
        while written < self.out.len() {
            match self.file.write(&self.out[written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => result = Err(e),
            }
            if result.is_err() {
                break;
            }
        }
        self.size += written as u64;
        self.out.drain(..written);
        if self.out.is_empty() && self.out.capacity() > BATCH {
            self.out = Vec::new();
        }
        result.map_err(|source| WriteError { path: self.path.clone(), act: "write", source })
    }

    fn rotate(&mut self) -> Result<(), WriteError> {
        // records may not be torn across files
        self.flush()?;
        match rotate::rotate(&self.path, self.max_files) {
            Ok(file) => {
                self.file = file;
                self.size = 0;
                self.rotate_at = self.max_size;
                Ok(())
            }
            Err(source) => {
                // go on in the old file, and do not try at every record
                self.rotate_at = self.size + self.max_size;
                // if only the renaming was done, the live path is free: writing goes on in `.1`
                Err(WriteError { path: self.path.clone(), act: "rotate", source })
            }
        }
    }
}

/// Cuts off an unfinished record at the end; returns the size.
fn repair(file: &File, format: Format) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let whole = match format {
        Format::JsonFile | Format::Cri => end_of_last_line(file, size)?,
        Format::Local => end_of_last_entry(file, size)?,
    };
    if whole < size {
        file.set_len(whole)?;
    }
    Ok(whole)
}

fn end_of_last_line(file: &File, size: u64) -> io::Result<u64> {
    let window = size.min(MAX_RECORD as u64);
    let mut last = [0];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if size == 0 || last == *b"\n" {
        return Ok(size);
    }
    let mut tail = vec![0; window as usize];
    file.read_exact_at(&mut tail, size - window)?;
    Ok(memchr::memrchr(b'\n', &tail).map_or(size - window, |at| size - window + at as u64 + 1))
}

fn end_of_last_entry(file: &File, size: u64) -> io::Result<u64> {
    if crate::tail::entry_before(file, size)?.is_some() || size == 0 {
        return Ok(size);
    }
    let mut at = 0;
    while let Some(next) = crate::tail::entry_after(file, at, size)? {
        at = next;
    }
    Ok(at)
}

/// Removes a log's files, the rotated ones too.
///
/// # Errors
/// The first file that could not be removed; the others are tried all the same.
pub fn remove(path: &Path) -> Result<(), WriteError> {
    let mut result = Ok(());
    for file in rotate::files(path) {
        if let Err(source) = fs::remove_file(&file) {
            result = result.and(Err(WriteError { path: file, act: "remove", source }));
        }
    }
    result
}

#[cfg(test)]
mod tests;
