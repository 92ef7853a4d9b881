//! Making an image of one layer from a plain archive of files.

use bytes::Bytes;
use engine_backend::{BackendError, Labels, ResourceKind};
use tokio::sync::mpsc;
use wharf_docker::time::Time;
use wharf_kinds::Kind;
use wharf_registry::{Descriptor, LayerEncoding, media_types};
use wharf_vocab::{Algorithm, Digest, Digester, Platform, label_names};

use crate::changes::{self, ChangeError};
use crate::document::{DiffId, Document, History, RootFs};
use crate::error::StoreError;
use crate::images::Images;
use crate::lease::{LeaseGuard, unique};
use crate::load::layer_type;
use crate::stored;
use crate::tag::{TagError, repo_and_tag};

/// Bytes sent to the daemon at once.
const BATCH: usize = 256 << 10;

/// What to import.
pub struct ImportRequest {
    /// The archive's bytes in order: tar, perhaps with gzip or zstd. An error text means that the client went away.
    pub archive: mpsc::Receiver<Result<Bytes, String>>,
    /// Empty for an image without a name.
    pub repository: String,
    pub tag: String,
    pub message: String,
    /// Dockerfile instructions that set the config.
    pub changes: Vec<String>,
    /// This machine's if none is given.
    pub platform: Option<Platform>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot read the archive: {0}")]
    Archive(String),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Name(#[from] TagError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl ImportError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Archive(_) => Kind::InvalidArgument,
            Self::Change(error) => error.kind(),
            Self::Name(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Backend(error) => error.kind(),
        }
    }
}

impl Images {
    /// Imports and returns the new image's id.
    pub async fn import(&self, request: ImportRequest) -> Result<Digest, ImportError> {
        // everything that can be wrong with the request, before anything is written
        let name = repo_and_tag(&request.repository, &request.tag)?;
        let config = changes::apply(&request.changes)?;
        let _slot = self.inner.archives.acquire().await;
        let lease = LeaseGuard::take(self.backend(), "import").await?;
        let done = async {
            let layer = self.take_layer(&lease, request.archive).await?;
            let diff_id = self.unpack_unknown(&lease, &layer).await?;
            let platform = request.platform.clone().unwrap_or_else(Platform::host);
            let now = Time::now();
            let document = Document {
                architecture: platform.architecture,
                variant: platform.variant,
                os: platform.os,
                created: Some(now),
                comment: request.message.clone(),
                config,
                rootfs: RootFs { r#type: "layers".into(), diff_ids: vec![DiffId(diff_id.clone())] },
                history: vec![History {
                    created: Some(now),
                    comment: request.message.clone(),
                    ..History::default()
                }],
                ..Document::default()
            };
            // strings and numbers alone always encode
            let bytes = serde_json::to_vec(&document).unwrap_or_default();
            let config = Descriptor::new(media_types::OCI_CONFIG, Digest::sha256(&bytes), bytes.len() as u64);
            let (ingest, digest) = (format!("config-{}", config.digest), config.digest.as_str());
            self.backend().content_put(lease.lease(), &ingest, digest, &bytes, &Labels::new()).await?;
            self.keep_snapshots(&config.digest, Some(&diff_id)).await?;
            let target = self.put_manifest(&lease, &config, std::slice::from_ref(&layer)).await?;
            match &name {
                Some(name) => self.publish(name, &target).await.map(|_| ())?,
                None => self.publish_nameless(&target).await?,
            }
            Ok(config.digest)
        };
        match done.await {
            Ok(id) => {
                lease.release().await;
                let shown = name.map_or_else(|| id.to_string(), |n| n.familiar());
                self.publish_event("import", id.as_str(), &shown);
                Ok(id)
            }
            Err(error) => {
                lease.discard().await;
                Err(error)
            }
        }
    }

    async fn take_layer(
        &self,
        lease: &LeaseGuard,
        mut archive: mpsc::Receiver<Result<Bytes, String>>,
    ) -> Result<Descriptor, ImportError> {
        let ingest = unique("import");
        let mut writer = self.backend().content_writer(lease.lease(), &ingest, 0, "").await?;
        let mut digester = Digester::new(Algorithm::Sha256);
        let mut magic = Vec::with_capacity(6);
        let mut batch = Vec::with_capacity(BATCH);
        let received = async {
            while let Some(chunk) = archive.recv().await {
                let chunk = chunk.map_err(ImportError::Archive)?;
                magic.extend(chunk.iter().take(6 - magic.len().min(6)));
                digester.update(&chunk);
                batch.extend_from_slice(&chunk);
                if batch.len() >= BATCH {
                    writer.write(&batch).await?;
                    batch.clear();
                }
            }
            writer.write(&batch).await?;
            Ok(())
        };
        let received: Result<(), ImportError> = received.await;
        let encoding = received.and_then(|()| match magic.as_slice() {
            [] => Err(ImportError::Archive("it is empty".into())),
            [0x1f, 0x8b, ..] => Ok(LayerEncoding::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(LayerEncoding::Zstd),
            [b'B', b'Z', b'h', ..] => Err(ImportError::Archive("bzip2 compression is not supported".into())),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => {
                Err(ImportError::Archive("xz compression is not supported".into()))
            }
            _ => Ok(LayerEncoding::Tar),
        });
        let encoding = match encoding {
            Ok(encoding) => encoding,
            Err(error) => {
                drop(writer);
                self.backend().ingest_abort(&ingest).await?;
                return Err(error);
            }
        };
        let size = writer.offset();
        let digest = digester.finish();
        match writer.commit(&Labels::new()).await {
            Err(error) if error.kind() == Kind::AlreadyExists => {
                let kind = ResourceKind::Content;
                self.backend().lease_add(lease.lease(), kind, digest.as_str()).await?;
            }
            other => {
                other?;
            }
        }
        Ok(Descriptor::new(layer_type(encoding), digest, size))
    }

    /// Unpacks a lowest layer of which only the unpacking tells what it unpacks to; returns its diff id, which for a
    /// lowest layer is its chain id too.
    async fn unpack_unknown(&self, lease: &LeaseGuard, layer: &Descriptor) -> Result<Digest, StoreError> {
        let backend = self.backend();
        let key = unique("extract-import");
        let mounts = backend.snapshot_prepare(lease.lease(), &key, "", &Labels::new()).await?;
        let made = async {
            let failed = |source| StoreError::Unpack { layer: layer.digest.clone(), source };
            let applied = backend.diff_apply(&stored::to_backend(layer), &mounts).await.map_err(failed)?;
            let diff_id = Digest::parse(&applied.digest).map_err(|_| StoreError::WrongLayer {
                layer: layer.digest.clone(),
                expected: layer.digest.clone(),
                actual: applied.digest.clone(),
            })?;
            let labels = Labels::from([(label_names::SNAPSHOT_REF.to_owned(), diff_id.to_string())]);
            match backend.snapshot_commit(lease.lease(), diff_id.as_str(), &key, &labels).await {
                Err(error) if error.kind() == Kind::AlreadyExists => Ok((diff_id, true)),
                Err(error) => Err(error.into()),
                Ok(()) => Ok((diff_id, false)),
            }
        };
        let made: Result<(Digest, bool), StoreError> = made.await;
        if !matches!(made, Ok((_, false))) {
            backend.snapshot_remove(&key).await?;
        }
        let (diff_id, _) = made?;
        if layer.media_type != media_types::OCI_LAYER {
            let labels = Labels::from([(label_names::UNCOMPRESSED.to_owned(), diff_id.to_string())]);
            backend.content_set_labels(layer.digest.as_str(), &labels).await?;
        }
        Ok(diff_id)
    }
}
