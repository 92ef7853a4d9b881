//! The content store: a namespace's view of blobs and ingests.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use lifecycle_metadata::{BlobInfo, IngestRecord, Metadata, Reclaim, Scope};
use wharf_failpoints::{Point, hit};
use wharf_vocab::{Digest, Filter, FilterError, Labels};

use crate::error::ContentError;
use crate::files::Files;
use crate::reader::Reader;
use crate::refs::OpenRefs;

/// How far an ingest has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestStatus {
    pub reference: String,
    /// Bytes that are there.
    pub offset: u64,
    /// Bytes announced, 0 if none were.
    pub total: u64,
    pub started: SystemTime,
    pub updated: SystemTime,
}

/// Blobs and ingests; cheap to clone.
#[derive(Clone)]
pub struct ContentStore {
    pub(crate) metadata: Metadata,
    pub(crate) files: Arc<Files>,
    pub(crate) refs: Arc<OpenRefs>,
    /// Held for reading from before a file gets its place until its record stands, and for writing while
    /// files without a record are removed.
    pub(crate) placing: Arc<RwLock<()>>,
    pub(crate) isolated: bool,
}

impl ContentStore {
    /// `root` is made if it is not there.
    pub fn open(root: &Path, metadata: Metadata) -> Result<Self, ContentError> {
        let files = Arc::new(Files::open(root)?);
        Ok(ContentStore { metadata, files, refs: Arc::default(), placing: Arc::default(), isolated: false })
    }

    /// With this each namespace has to bring the bytes of its blobs itself, unless a namespace that has them is
    /// labelled `containerd.io/namespace.shareable=true`. They are stored once all the same.
    pub fn isolated(mut self, isolated: bool) -> Self {
        self.isolated = isolated;
        self
    }

    /// The size of a blob that is on disk and that any namespace may take over.
    pub(crate) fn shareable(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        if self.isolated && !self.metadata.content().is_shareable(digest)? {
            return Ok(None);
        }
        Ok(self.files.blob_size(digest))
    }

    /// NotFound if the namespace has no such blob, even if another has.
    pub fn info(&self, scope: &Scope, digest: &Digest) -> Result<BlobInfo, ContentError> {
        Ok(self.metadata.content().info(scope, digest)?)
    }

    pub fn list(&self, scope: &Scope, filters: &[String]) -> Result<Vec<BlobInfo>, ContentError> {
        Ok(self.metadata.content().list(scope, filters)?)
    }

    /// See [`lifecycle_metadata::ContentRecords::update`].
    pub fn update(
        &self,
        scope: &Scope,
        digest: &Digest,
        labels: &Labels,
        mask: &[String],
    ) -> Result<BlobInfo, ContentError> {
        Ok(self.metadata.content().update(scope, digest, labels, mask)?)
    }

    /// The bytes follow when no namespace has the blob any more.
    pub fn delete(&self, scope: &Scope, digest: &Digest) -> Result<(), ContentError> {
        Ok(self.metadata.content().delete(scope, digest)?)
    }

    pub fn reader(&self, scope: &Scope, digest: &Digest) -> Result<Reader, ContentError> {
        let info = self.info(scope, digest)?;
        let missing = |source| ContentError::Missing { digest: digest.clone(), source };
        let file = File::open(self.files.blob(digest)).map_err(missing)?;
        Ok(Reader::new(file, info.size))
    }

    pub fn status(&self, scope: &Scope, reference: &str) -> Result<IngestStatus, ContentError> {
        Ok(self.status_of(self.metadata.content().ingest(scope, reference)?))
    }

    /// The only field for filters is `ref`.
    pub fn statuses(&self, scope: &Scope, filters: &[String]) -> Result<Vec<IngestStatus>, ContentError> {
        let filter = Filter::parse_all(filters).map_err(|e: FilterError| ContentError::Metadata(e.into()))?;
        let all = self.metadata.content().ingests(scope)?.into_iter().map(|record| self.status_of(record));
        Ok(all
            .filter(|status| {
                filter.matches(|path| (path == ["ref"]).then(|| status.reference.clone().into()))
            })
            .collect())
    }

    fn status_of(&self, record: IngestRecord) -> IngestStatus {
        let file = std::fs::symlink_metadata(self.files.ingest(record.id)).ok();
        let offset =
            if record.shared.is_some() { record.total } else { file.as_ref().map_or(0, |m| m.len()) };
        let updated = file.and_then(|m| m.modified().ok()).unwrap_or(record.started);
        IngestStatus {
            reference: record.reference,
            offset,
            total: record.total,
            started: record.started,
            updated,
        }
    }

    /// Forgets an ingest and its bytes. A writer that is still at it fails when it commits.
    pub fn abort(&self, scope: &Scope, reference: &str) -> Result<(), ContentError> {
        let record = self.metadata.content().abort(scope, reference)?;
        Files::remove(&self.files.ingest(record.id))
    }
}

impl Reclaim for ContentStore {
    fn name(&self) -> &'static str {
        "content"
    }

    fn reclaim(&self) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        let _alone = self.placing.write().unwrap_or_else(PoisonError::into_inner);
        let (blobs, ingests) = self.metadata.content().in_use()?;
        let mut removed = 0;
        for digest in self.files.blobs()? {
            if !blobs.contains_key(&digest) {
                Files::remove(&self.files.blob(&digest))?;
                hit(Point::CollectorReclaim);
                removed += 1;
            }
        }
        for id in self.files.ingests()? {
            if !ingests.contains(&id) {
                Files::remove(&self.files.ingest(id))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
