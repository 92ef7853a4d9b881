//! Fetching one layer into the content store.

use std::time::Duration;

use bytes::BytesMut;
use engine_backend::{BackendError, ContentWriter, Labels, Lease};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wharf_kinds::Kind;
use wharf_registry::{Descriptor, RegistryError, Repository};
use wharf_vocab::Digest;

use super::short;
use crate::images::Images;
use crate::progress::{Meter, Progress};

/// How long another client of the daemon may hold the same ingest.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(250);
/// Bytes sent to the daemon at once: the network's pieces are smaller, and each message has its answer.
const BATCH: usize = 256 << 10;

/// Why a layer did not arrive.
pub(super) enum FetchError {
    Registry(RegistryError),
    Backend(BackendError),
}

impl From<RegistryError> for FetchError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl From<BackendError> for FetchError {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

/// A layer on its way.
pub(super) struct Fetch {
    pub images: Images,
    pub repository: Repository,
    pub lease: Lease,
    pub layer: Descriptor,
    pub labels: Labels,
    pub progress: Progress,
}

impl Fetch {
    /// Fetches unless the content is here by then; returns the layer's digest.
    pub async fn run(self, slots: &Semaphore) -> Result<Digest, FetchError> {
        let digest = self.layer.digest.clone();
        let id = short(&digest);
        let slot = match slots.try_acquire() {
            Ok(slot) => Some(slot),
            Err(_) => {
                self.progress.update(id, "Waiting").await;
                slots.acquire().await.ok()
            }
        };
        let _held = self.images.inner.locks.hold(&format!("blob {digest}")).await;
        if let Some(writer) = self.writer().await? {
            self.stream(writer, id).await?;
        }
        drop(slot);
        self.progress.update(id, "Download complete").await;
        Ok(digest)
    }

    /// Opens the ingest; none if the content is here. An ingest that another client holds is waited for.
    async fn writer(&self) -> Result<Option<ContentWriter>, FetchError> {
        let backend = self.images.backend();
        let (digest, size) = (self.layer.digest.as_str(), self.layer.size);
        let ingest = format!("layer-{digest}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match backend.content_writer(&self.lease, &ingest, size, digest).await {
                Ok(writer) => return Ok(Some(writer)),
                Err(error) if error.kind() == Kind::AlreadyExists => {
                    backend.content_set_labels(digest, &self.labels).await?;
                    return Ok(None);
                }
                Err(error) if error.kind() == Kind::Unavailable && Instant::now() < deadline => {
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn stream(&self, mut writer: ContentWriter, id: &str) -> Result<(), FetchError> {
        let mut blob = self.repository.blob(&self.layer, writer.offset());
        let mut meter = Meter::new(&self.progress, id, "Downloading", self.layer.size);
        let received = async {
            let mut batch = BytesMut::with_capacity(BATCH);
            while let Some(chunk) = blob.next().await? {
                batch.extend_from_slice(&chunk);
                if batch.len() >= BATCH {
                    writer.write(&batch).await?;
                    batch.clear();
                }
                meter.at(writer.offset() + batch.len() as u64);
            }
            writer.write(&batch).await?;
            self.progress.update(id, "Verifying Checksum").await;
            writer.commit(&self.labels).await?;
            Ok(())
        };
        let received: Result<(), FetchError> = received.await;
        if let Err(FetchError::Registry(error)) = &received
            && error.kind() == Kind::DataLoss
        {
            // what was received is not what was asked for: a later pull must not go on from it
            let ingest = format!("layer-{}", self.layer.digest);
            // the wrong digest is what the user must hear of; containerd's abort can lose to the end of the write
            if let Err(error) = self.images.backend().ingest_abort(&ingest).await {
                tracing::warn!(ingest, %error, "a layer of another digest was not discarded");
            }
        }
        received
    }
}
