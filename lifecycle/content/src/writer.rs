//! Writing a blob: bytes into an ingest, then verify, flush, rename, record.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::SystemTime;

use lifecycle_metadata::{BlobInfo, MetadataError, Scope, Subject};
use wharf_failpoints::{Point, check, hit};
use wharf_vocab::{Algorithm, Digest, Digester, Labels};

use crate::error::ContentError;
use crate::files::Files;
use crate::refs::RefGuard;
use crate::store::ContentStore;

/// What is known before the first byte.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions<'a> {
    /// The name of the ingest; the same name takes up where it was left.
    pub reference: &'a str,
    /// Bytes to come, 0 if unknown.
    pub total: u64,
    /// What the bytes should hash to, if known.
    pub expected: Option<&'a Digest>,
}

/// Where a writer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub offset: u64,
    pub total: u64,
    pub started: SystemTime,
    pub updated: SystemTime,
}

/// The only writer of an ingest. Dropping it keeps what was written for a later one.
pub struct Writer {
    store: ContentStore,
    scope: Scope,
    reference: String,
    total: u64,
    /// Bytes that are taken at most, 0 for any.
    limit: u64,
    started: SystemTime,
    updated: SystemTime,
    path: PathBuf,
    source: Source,
    _guard: RefGuard,
}

enum Source {
    Own {
        file: File,
        digester: Digester,
        offset: u64,
    },
    /// The bytes are here, verified, on behalf of another namespace.
    Shared {
        digest: Digest,
        size: u64,
    },
}

impl ContentStore {
    /// Begins an ingest or takes it up.
    ///
    /// AlreadyExists if the namespace has the expected blob; Unavailable while another writer is at it.
    pub fn writer(&self, scope: &Scope, options: &WriteOptions<'_>) -> Result<Writer, ContentError> {
        let guard = self.refs.acquire(&scope.namespace, options.reference)?;
        let _placing = self.placing.read().unwrap_or_else(PoisonError::into_inner);
        let shareable = options.expected.map(|digest| self.shareable(digest)).transpose()?.flatten();
        let record = self.metadata.content().begin_ingest(
            scope,
            options.reference,
            options.total,
            options.expected,
            shareable,
        )?;
        hit(Point::ContentOpen);
        let path = self.files.ingest(record.id);
        let (source, updated) = match record.shared {
            Some(digest) => (Source::Shared { digest, size: record.total }, SystemTime::now()),
            None => open_own(&path)?,
        };
        Ok(Writer {
            store: self.clone(),
            scope: scope.clone(),
            reference: options.reference.into(),
            total: record.total,
            limit: record.total,
            started: record.started,
            updated: updated.max(record.started),
            path,
            source,
            _guard: guard,
        })
    }
}

/// Opens the file of an ingest and hashes what is in it. Also when it was last written to.
fn open_own(path: &PathBuf) -> Result<(Source, SystemTime), ContentError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(ContentError::io("open", path))?;
    let mut digester = Digester::new(Algorithm::Sha256);
    let offset = hash_into(&mut file, &mut digester).map_err(ContentError::io("read", path))?;
    let updated =
        file.metadata().and_then(|meta| meta.modified()).map_err(ContentError::io("look at", path))?;
    Ok((Source::Own { file, digester, offset }, updated))
}

fn hash_into(file: &mut File, digester: &mut Digester) -> std::io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 256 << 10];
    let mut offset = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(offset);
        }
        digester.update(&buffer[..count]);
        offset += count as u64;
    }
}

impl Writer {
    pub fn progress(&self) -> Progress {
        let (offset, total) = match &self.source {
            Source::Own { offset, .. } => (*offset, self.total),
            Source::Shared { size, .. } => (*size, *size),
        };
        Progress { offset, total, started: self.started, updated: self.updated }
    }

    /// The sha256 digest of what is there so far.
    pub fn digest(&self) -> Digest {
        match &self.source {
            Source::Own { digester, .. } => digester.clone().finish(),
            Source::Shared { digest, .. } => digest.clone(),
        }
    }

    /// Takes more than the announced size, which then counts at the commit only: a client may have announced the
    /// size of something else that it appends to.
    pub fn unlimited(mut self) -> Self {
        self.limit = 0;
        self
    }

    /// Appends. OutOfRange beyond an announced size, unless it is no limit. What is shared with another namespace
    /// becomes a copy.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.limit > 0 && self.progress().offset + bytes.len() as u64 > self.limit {
            return Err(ContentError::TooMuch { reference: self.reference.clone(), total: self.limit });
        }
        if let Source::Shared { digest, size } = &self.source {
            let (digest, size) = (digest.clone(), *size);
            self.unshare(&digest, size)?;
        }
        let Source::Own { file, digester, offset } = &mut self.source else { return Ok(()) };
        let end = *offset + bytes.len() as u64;
        if let Err(source) = file.write_all(bytes).and_then(|()| check(Point::ContentWrite)) {
            // take back the part that was written, so that the offset stays true
            let _ = file.set_len(*offset).and_then(|()| file.seek(SeekFrom::Start(*offset)));
            return Err(ContentError::io("write", &self.path)(source));
        }
        digester.update(bytes);
        *offset = end;
        self.updated = SystemTime::now();
        Ok(())
    }

    /// Cuts what is there to `size` bytes; it cannot make it longer.
    pub fn truncate(&mut self, size: u64) -> Result<(), ContentError> {
        let found = self.progress().offset;
        if size > found {
            return Err(ContentError::Truncate { reference: self.reference.clone(), found, wanted: size });
        }
        if let Source::Shared { digest, size: whole } = &self.source {
            if size == *whole {
                return Ok(());
            }
            let digest = digest.clone();
            return self.unshare(&digest, size);
        }
        let Source::Own { file, .. } = &mut self.source else { return Ok(()) };
        file.set_len(size).map_err(ContentError::io("truncate", &self.path))?;
        (self.source, _) = open_own(&self.path)?;
        self.updated = SystemTime::now();
        Ok(())
    }

    /// Gives the ingest a file of its own with the first `size` bytes of the shared blob.
    fn unshare(&mut self, digest: &Digest, size: u64) -> Result<(), ContentError> {
        let blob = self.store.files.blob(digest);
        // before the record lets go of it: nobody else may hold it any more
        let whole = File::open(&blob).map_err(ContentError::io("open", &blob))?;
        self.store.metadata.content().unshare_ingest(&self.scope, &self.reference)?;
        let copy = || -> std::io::Result<u64> {
            let mut options = OpenOptions::new();
            let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
            std::io::copy(&mut whole.take(size), &mut out)
        };
        copy().map_err(ContentError::io("copy into", &self.path))?;
        (self.source, _) = open_own(&self.path)?;
        self.updated = SystemTime::now();
        Ok(())
    }

    /// Makes the blob visible: verifies size (0: any) and digest, flushes, moves it into place, records it.
    ///
    /// FailedPrecondition if size or digest differ: the ingest stays as it is. AlreadyExists if the namespace got
    /// the blob meanwhile: the ingest is over, the scope's lease keeps the blob.
    pub fn commit(
        mut self,
        size: u64,
        expected: Option<&Digest>,
        labels: Labels,
    ) -> Result<BlobInfo, ContentError> {
        let found = self.progress().offset;
        if size != 0 && size != found {
            return Err(ContentError::Size { found, wanted: size });
        }
        let digest = self.digest_like(expected)?;
        if let Some(wanted) = expected
            && *wanted != digest
        {
            return Err(ContentError::Digest { found: digest, wanted: wanted.clone() });
        }
        if let Source::Own { file, .. } = &self.source {
            file.sync_data().map_err(ContentError::io("flush", &self.path))?;
            check(Point::ContentCommitFlushed).map_err(ContentError::io("flush", &self.path))?;
        }
        let _placing = self.store.placing.read().unwrap_or_else(PoisonError::into_inner);
        let records = self.store.metadata.content();
        self.place(&digest)?;
        hit(Point::ContentCommitPlaced);
        // if the record fails the bytes stay in place without one: the next ingest of this blob finds them, or the
        // collector sweeps them
        let recorded = records.commit(&self.scope, &self.reference, &digest, found, labels);
        hit(Point::ContentCommitRecorded);
        if matches!(recorded, Ok(_) | Err(MetadataError::AlreadyExists(_))) {
            Files::remove(&self.path)?;
        }
        Ok(recorded?)
    }

    /// The digest in the algorithm that the caller expects.
    fn digest_like(&mut self, expected: Option<&Digest>) -> Result<Digest, ContentError> {
        match (&mut self.source, expected.map(Digest::algorithm)) {
            (Source::Own { file, .. }, Some(algorithm)) if algorithm != Algorithm::Sha256 => {
                let mut digester = Digester::new(algorithm);
                hash_into(file, &mut digester).map_err(ContentError::io("read", &self.path))?;
                Ok(digester.finish())
            }
            _ => Ok(self.digest()),
        }
    }

    /// Moves the bytes to where the blob belongs, unless they are there already.
    fn place(&self, digest: &Digest) -> Result<(), ContentError> {
        let blob = self.store.files.blob(digest);
        if self.store.files.blob_size(digest).is_some() {
            return Ok(());
        }
        if let Source::Shared { .. } = self.source {
            return Err(MetadataError::NotFound(Subject::Content(digest.clone())).into());
        }
        std::fs::rename(&self.path, &blob).map_err(ContentError::io("move into place", &blob))?;
        let directory = self.store.files.blob_directory(digest.algorithm());
        wharf_store::file::sync_directory(&directory).map_err(ContentError::io("flush", &directory))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Source::Own { file, .. } = &self.source {
            // the kernel's own times are coarser than those that were told; after a commit this is the blob's
            let _ = file.set_modified(self.updated);
        }
    }
}
