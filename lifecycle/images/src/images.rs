//! The part as a whole: the stores it works between, and what is under way.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use lifecycle_content::{ContentError, ContentStore, WriteOptions};
use lifecycle_metadata::{BlobInfo, Metadata, MetadataError, Scope};
use tokio::sync::Semaphore;
use wharf_kinds::Kind;
use wharf_registry::{Descriptor, MAX_CONFIG};
use wharf_vocab::{Digest, Labels};

use crate::error::ImagesError;
use crate::lease::Held;
use crate::progress::ingest_name;

/// Blobs fetched or unpacked at once, over all operations. Each takes two threads and at most some two
/// megabytes while it is unpacked, whatever its size.
const AT_ONCE: usize = 5;
/// How long somebody else may write the same ingest, and how often that is looked at.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// The same for a manifest or configuration. It is small, and the wait holds one of the few threads for files.
pub(crate) const PATIENCE_FOR_DOCUMENTS: Duration = Duration::from_secs(5);

/// Brings images in and out; cheap to clone.
#[derive(Clone)]
pub struct Images(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub metadata: Metadata,
    pub content: ContentStore,
    pub slots: Arc<Semaphore>,
    /// Blobs that somebody is at, by namespace and digest.
    busy: Mutex<HashMap<(String, Digest), Weak<tokio::sync::Mutex<()>>>>,
}

impl Images {
    pub fn new(metadata: Metadata, content: ContentStore) -> Self {
        Images(Arc::new(Inner {
            metadata,
            content,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            busy: Mutex::default(),
        }))
    }

    /// The scope with a lease for the length of an operation.
    pub async fn hold(&self, scope: &Scope) -> Result<Held, ImagesError> {
        let (metadata, scope) = (self.0.metadata.clone(), scope.clone());
        blocking(move || Ok(Held::new(&metadata, &scope, None)?)).await
    }

    /// The same for the pull of a reference.
    pub async fn hold_for(&self, scope: &Scope, reference: &str) -> Result<Held, ImagesError> {
        let (metadata, scope, reference) = (self.0.metadata.clone(), scope.clone(), reference.to_owned());
        blocking(move || Ok(Held::new(&metadata, &scope, Some(&reference))?)).await
    }
}

impl Inner {
    /// One at a time for each blob: whoever comes second finds it there.
    pub fn turn(&self, scope: &Scope, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (scope.namespace.clone(), digest.clone());
        if let Some(turn) = busy.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        busy.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        busy.insert(key, Arc::downgrade(&turn));
        turn
    }

    /// Whether the namespace has the blob; if so the scope's lease keeps it from now on.
    pub fn keep(&self, scope: &Scope, digest: &Digest) -> Result<bool, ImagesError> {
        match self.content.info(scope, digest) {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if let Some(lease) = &scope.lease {
            let resource =
                lifecycle_metadata::Resource { kind: "content".into(), id: digest.as_str().into() };
            self.metadata.leases().add_resource(scope, lease, &resource)?;
            // it may have been collected between the look and the lease
            return Ok(self.content.info(scope, digest).is_ok());
        }
        Ok(true)
    }

    /// A small blob of the content store.
    pub fn read(&self, scope: &Scope, digest: &Digest) -> Result<Vec<u8>, ImagesError> {
        let reader = self.content.reader(scope, digest)?;
        let mut bytes = Vec::new();
        let limit = MAX_CONFIG as u64;
        if reader.size() > limit {
            let reason = format!("it has {} bytes, more than {limit}", reader.size());
            return Err(ImagesError::Config { digest: digest.clone(), reason });
        }
        let failed = |source| ImagesError::Read { digest: digest.clone(), source };
        reader.into_file().take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// Stores a small blob, or keeps it where it is there. Blocks, also while somebody else writes the same.
    pub fn store(
        &self,
        scope: &Scope,
        descriptor: &Descriptor,
        bytes: &[u8],
        labels: Labels,
    ) -> Result<(), ImagesError> {
        let name = ingest_name(descriptor);
        let options =
            WriteOptions { reference: &name, total: bytes.len() as u64, expected: Some(&descriptor.digest) };
        let deadline = Instant::now() + PATIENCE_FOR_DOCUMENTS;
        let mut writer = loop {
            match self.content.writer(scope, &options) {
                Err(error) if error.kind() == Kind::AlreadyExists => return Ok(()),
                // somebody else pulls the same: it is there in a moment, or left to us
                Err(ContentError::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(POLL),
                other => break other?,
            }
        };
        if writer.progress().offset != bytes.len() as u64 {
            writer.truncate(0)?;
            writer.write(bytes)?;
        }
        self.committed(writer.commit(bytes.len() as u64, Some(&descriptor.digest), labels))
    }

    /// The outcome of a commit: that the blob is there already is as good.
    pub fn committed(&self, outcome: Result<BlobInfo, ContentError>) -> Result<(), ImagesError> {
        match outcome {
            Ok(_) | Err(ContentError::Metadata(MetadataError::AlreadyExists(_))) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Runs what may block away from the reactor.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImagesError> + Send + 'static,
) -> Result<T, ImagesError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ImagesError::Broken))
}
