//! A layer as it comes from a registry, into a directory.
//!
//! One thread reads, hashes and decompresses, the other hashes and unpacks: two digests, one pass.

use std::io::{self, BufRead, Read};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::io::Errno;
use wharf_kinds::Kind;
use wharf_vocab::{Algorithm, Digest, Digester};

use crate::compression::{Compression, CompressionError, Decompressor};
use crate::extract::{Below, ExtractError, Extractor, Pending, Whiteouts};
use crate::tar::{TarError, TarReader};

/// Bytes handed from one thread to the other at a time.
const CHUNK: usize = 128 << 10;

/// Chunks on the way.
const CHUNKS: usize = 4;

/// Bounds of one archive.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries; each takes an inode and some time.
    pub entries: u64,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
}

impl Default for Limits {
    /// Ten million entries, a tebibyte.
    fn default() -> Self {
        Limits { entries: 10_000_000, bytes: 1 << 40 }
    }
}

/// What is hashed of a layer: its archive always, the stream as it came where nobody else does.
#[derive(Debug, Clone, Copy)]
pub struct Hashing {
    pub algorithm: Algorithm,
    pub compressed: bool,
}

impl From<Algorithm> for Hashing {
    /// Both digests in this algorithm.
    fn from(algorithm: Algorithm) -> Self {
        Hashing { algorithm, compressed: true }
    }
}

/// What a layer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub compression: Compression,
    /// Digest, if it was asked for, and bytes of the stream as it came.
    pub compressed: (Option<Digest>, u64),
    /// Digest (the DiffID) and bytes of the archive.
    pub uncompressed: (Digest, u64),
    pub entries: u64,
}

/// Why a layer was not applied. The target is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("open the target: {0}")]
    Target(io::Error),
    #[error("start a thread: {0}")]
    Thread(io::Error),
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error("the archive has more than {0} bytes")]
    TooLarge(u64),
}

impl ApplyError {
    pub fn kind(&self) -> Kind {
        match self {
            ApplyError::Target(e) | ApplyError::Thread(e) => Kind::of_io(e),
            ApplyError::Compression(e) => e.kind(),
            ApplyError::Extract(e) => e.kind(),
            ApplyError::TooLarge(_) => Kind::InvalidArgument,
        }
    }
}

impl From<TarError> for ApplyError {
    fn from(error: TarError) -> Self {
        ApplyError::Extract(error.into())
    }
}

/// Unpacks `input` below `target`, a directory, and computes digests as it says in `hashing`, which an algorithm
/// alone means both with.
///
/// `lower` are the layers that the target lies on, the nearest first. The rest of the input behind the archive's
/// end is read as well, since the digests cover it.
pub fn apply(
    input: impl Read + Send,
    target: BorrowedFd<'_>,
    lower: &[BorrowedFd<'_>],
    whiteouts: Whiteouts,
    hashing: impl Into<Hashing>,
    limits: Limits,
) -> Result<Applied, ApplyError> {
    run(input, target, Below::Known(lower), whiteouts, hashing.into(), limits).map(|(applied, _)| applied)
}

/// The same for an overlay's layer whose lower layers are not there yet: what needs them is left to
/// [`Pending::resolve`], without which the layer is not complete.
pub fn apply_early(
    input: impl Read + Send,
    target: BorrowedFd<'_>,
    userxattr: bool,
    hashing: impl Into<Hashing>,
    limits: Limits,
) -> Result<(Applied, Pending), ApplyError> {
    run(input, target, Below::Later, Whiteouts::Overlay { userxattr }, hashing.into(), limits)
}

fn run(
    input: impl Read + Send,
    target: BorrowedFd<'_>,
    below: Below<'_>,
    whiteouts: Whiteouts,
    hashing: Hashing,
    limits: Limits,
) -> Result<(Applied, Pending), ApplyError> {
    let extractor =
        Extractor::new(target, below, whiteouts).map_err(|e: Errno| ApplyError::Target(e.into()))?;
    let (send, receive) = sync_channel(CHUNKS);
    let (give_back, used) = sync_channel(CHUNKS + 2);
    std::thread::scope(|scope| {
        let decompress = move || decompress(input, hashing, &send, &used);
        let spawned = std::thread::Builder::new().name("decompress".into()).spawn_scoped(scope, decompress);
        let reader = spawned.map_err(ApplyError::Thread)?;
        let unpacked = unpack(extractor, receive, give_back, hashing.algorithm, limits);
        let joined = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // what the unpacker saw comes first: it includes the other's trouble, with the place
        let (uncompressed, entries, pending) = unpacked?;
        let (compression, compressed) = joined?;
        Ok((Applied { compression, compressed, uncompressed, entries }, pending))
    })
}

type Chunk = Result<Vec<u8>, io::Error>;

fn decompress(
    input: impl Read,
    hashing: Hashing,
    send: &SyncSender<Chunk>,
    used: &Receiver<Vec<u8>>,
) -> Result<(Compression, (Option<Digest>, u64)), ApplyError> {
    let digester = hashing.compressed.then(|| Digester::new(hashing.algorithm));
    let hashed = Hashed { input, digester, bytes: 0 };
    let mut source = match Decompressor::new(hashed) {
        Ok(source) => source,
        Err(error) => {
            let _ = send.send(Err(io::Error::other(error.to_string())));
            return Err(error.into());
        }
    };
    let compression = source.compression();
    loop {
        // memory that went around before needs no new pages from the kernel
        let mut chunk = used.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        match fill(&mut source, &mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                chunk.truncate(count);
                if send.send(Ok(chunk)).is_err() {
                    // the unpacker has given up and says why
                    return Err(CompressionError::from(io::Error::other("the unpacker stopped")).into());
                }
            }
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                let _ = send.send(Err(error));
                return Err(CompressionError::from(copy).into());
            }
        }
    }
    let hashed = source.drain().map_err(CompressionError::from)?;
    Ok((compression, (hashed.digester.map(Digester::finish), hashed.bytes)))
}

fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match source.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn unpack(
    mut extractor: Extractor,
    receive: Receiver<Chunk>,
    give_back: SyncSender<Vec<u8>>,
    algorithm: Algorithm,
    limits: Limits,
) -> Result<((Digest, u64), u64, Pending), ApplyError> {
    let digester = Digester::new(algorithm);
    let chunks = Chunks {
        receive,
        give_back,
        chunk: Vec::new(),
        at: 0,
        digester,
        bytes: 0,
        most: limits.bytes,
        exceeded: false,
    };
    let mut archive = TarReader::new(chunks);
    let entries = match unpack_entries(&mut extractor, &mut archive, limits) {
        // whatever it looked like to the reader
        Err(_) if archive.get_ref().exceeded => return Err(ApplyError::TooLarge(limits.bytes)),
        other => other?,
    };
    let mut rest = archive.into_inner();
    loop {
        match rest.fill_buf().map(<[u8]>::len) {
            Ok(0) => break,
            Ok(count) => rest.consume(count),
            Err(_) if rest.exceeded => return Err(ApplyError::TooLarge(limits.bytes)),
            Err(source) => return Err(TarError::Io { at: rest.bytes, source }.into()),
        }
    }
    let pending = extractor.finish()?;
    Ok(((rest.digester.finish(), rest.bytes), entries, pending))
}

fn unpack_entries(
    extractor: &mut Extractor,
    archive: &mut TarReader<Chunks>,
    limits: Limits,
) -> Result<u64, ApplyError> {
    let mut entries = 0;
    while let Some(entry) = archive.next_entry()? {
        entries += 1;
        if entries > limits.entries {
            return Err(ExtractError::TooMany(limits.entries).into());
        }
        if archive.data_left() > limits.bytes {
            return Err(ApplyError::TooLarge(limits.bytes));
        }
        extractor.extract(&entry, archive)?;
    }
    Ok(entries)
}

/// A stream whose bytes are counted, and perhaps hashed, as they pass.
struct Hashed<R> {
    input: R,
    digester: Option<Digester>,
    bytes: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if let Some(digester) = &mut self.digester {
            digester.update(&buffer[..count]);
        }
        self.bytes += count as u64;
        Ok(count)
    }
}

/// The archive as it comes from the other thread, hashed and counted.
struct Chunks {
    receive: Receiver<Chunk>,
    give_back: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    digester: Digester,
    /// Bytes received, which are those hashed.
    bytes: u64,
    most: u64,
    exceeded: bool,
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.chunk.len() {
            match self.receive.recv() {
                Ok(chunk) => {
                    // one that does not fit goes to the allocator
                    let _ = self.give_back.try_send(std::mem::replace(&mut self.chunk, chunk?));
                    self.at = 0;
                    self.bytes += self.chunk.len() as u64;
                    if self.bytes > self.most {
                        self.exceeded = true;
                        return Err(io::Error::other("the archive is too large"));
                    }
                    // the whole chunk at once: headers are read in small pieces
                    self.digester.update(&self.chunk);
                }
                Err(_) => return Ok(&[]),
            }
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = self.chunk.len().min(self.at + count);
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
