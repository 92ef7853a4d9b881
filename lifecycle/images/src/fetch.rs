//! One blob from the registry into the content store, and perhaps through a layer on the way.

use std::sync::Arc;

use lifecycle_content::{ContentError, WriteOptions, Writer};
use lifecycle_metadata::Scope;
use lifecycle_snapshots::Layer;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wharf_archive::{Applied, Hashing, Limits};
use wharf_failpoints::{Point, hit};
use wharf_kinds::Kind;
use wharf_registry::Repository;
use wharf_vocab::{Algorithm, Labels};

use crate::error::ImagesError;
use crate::images::{Inner, PATIENCE, POLL, blocking};
use crate::labels::source_key;
use crate::progress::{Pace, Progress, Subject};
use crate::tee::{Piece, Tee};

/// Pieces on the way from the network to the disk; each is what one read of the socket gave, up to some 400 KiB.
const PIECES: usize = 2;

/// How often a blob is looked for that is said to be here.
const LOOKS: u32 = 3;

/// The ingest hashes the blob as it comes and verifies it.
const ARCHIVE_ONLY: Hashing = Hashing { algorithm: Algorithm::Sha256, compressed: false };

/// Where blobs come from and go to in one operation.
#[derive(Clone)]
pub(crate) struct Route {
    pub scope: Scope,
    /// Absent when everything has to be here already.
    pub from: Option<Repository>,
    pub progress: Progress,
}

impl Inner {
    /// Sees to it that the content store has the blob, and unpacks it into `layer` if there is one: in passing
    /// where the blob is fetched whole, else from the content store.
    pub async fn bring(
        self: &Arc<Self>,
        route: &Route,
        subject: &Subject,
        layer: Option<Layer>,
    ) -> Result<Option<(Layer, Applied)>, ImagesError> {
        let turn = self.turn(&route.scope, &subject.descriptor.digest);
        let _turn = turn.lock().await;
        let _slot = self.slots.clone().acquire_owned().await.map_err(|_| ImagesError::Broken)?;
        let (from, writer) = match self.wanted(route, subject).await? {
            Some(wanted) => wanted,
            None => {
                route.progress.blob("already exists", subject, subject.descriptor.size);
                let none = Labels::new();
                self.label(&route.scope, &subject.descriptor.digest, none, route.from.as_ref()).await?;
                return self.unpack_stored(route, subject, layer).await;
            }
        };
        let offset = writer.progress().offset;
        // taken up in its middle it cannot be unpacked in passing
        let (in_passing, afterwards) = if offset == 0 { (layer, None) } else { (None, layer) };
        let (send, receive) = mpsc::channel(PIECES);
        let stored = {
            let (this, subject) = (self.clone(), subject.clone());
            let labels = Labels::from([(source_key(from), from.path().to_owned())]);
            blocking(move || this.take(&subject, Tee::new(receive, writer), in_passing, labels))
        };
        let fetched = download(from, subject, offset, send, &route.progress);
        // storing fails when fetching does, and the other way round: what came first is what counts
        let (stored, fetched) = tokio::join!(stored, fetched);
        let applied = match (stored, fetched) {
            (_, Err(Some(error))) => return Err(error),
            (stored, _) => stored?,
        };
        route.progress.blob("complete", subject, subject.descriptor.size);
        match applied {
            Some(applied) => Ok(Some(applied)),
            None => self.unpack_stored(route, subject, afterwards).await,
        }
    }

    /// Where to fetch the blob from, and the ingest to store it with; none if it is here.
    async fn wanted<'a>(
        self: &Arc<Self>,
        route: &'a Route,
        subject: &Subject,
    ) -> Result<Option<(&'a Repository, Writer)>, ImagesError> {
        let mut looks = 0;
        loop {
            looks += 1;
            let (this, scope, digest) =
                (self.clone(), route.scope.clone(), subject.descriptor.digest.clone());
            if blocking(move || this.keep(&scope, &digest)).await? {
                return Ok(None);
            }
            let Some(from) = &route.from else {
                let missing = lifecycle_metadata::Subject::ContentDigest(subject.descriptor.digest.clone());
                return Err(lifecycle_metadata::MetadataError::NotFound(missing).into());
            };
            match self.free_ingest(route, subject).await {
                // another was at it, such as a pull that was broken off, and has just finished
                Err(error) if error.kind() == Kind::AlreadyExists && looks < LOOKS => {}
                outcome => return Ok(Some((from, outcome?))),
            }
        }
    }

    /// The ingest of the blob, once nobody else writes it: a pull that was broken off lets go of it in a moment.
    async fn free_ingest(self: &Arc<Self>, route: &Route, subject: &Subject) -> Result<Writer, ImagesError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (this, scope, whole) = (self.clone(), route.scope.clone(), subject.clone());
            match blocking(move || this.ingest(&scope, &whole)).await {
                Err(ImagesError::Content(ContentError::Locked { .. })) if Instant::now() < deadline => {
                    tokio::time::sleep(POLL).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// The ingest of the blob, with what is there of it.
    fn ingest(&self, scope: &Scope, subject: &Subject) -> Result<Writer, ImagesError> {
        let (descriptor, reference) = (&subject.descriptor, subject.name.as_str());
        let options = WriteOptions { reference, total: descriptor.size, expected: Some(&descriptor.digest) };
        let mut writer = self.content.writer(scope, &options)?;
        let offset = writer.progress().offset;
        if offset > descriptor.size || (offset == descriptor.size && writer.digest() != descriptor.digest) {
            writer.truncate(0)?;
        }
        Ok(writer)
    }

    fn take(
        &self,
        subject: &Subject,
        mut tee: Tee,
        layer: Option<Layer>,
        labels: Labels,
    ) -> Result<Option<(Layer, Applied)>, ImagesError> {
        let descriptor = &subject.descriptor;
        let unpacked = match layer {
            None => None,
            Some(mut layer) => match layer.unpack(&mut tee, ARCHIVE_ONLY, Limits::default()) {
                Ok(applied) => Some((layer, applied)),
                Err(source) => {
                    return Err(match tee.failure() {
                        Some(error) => error.into(),
                        None => ImagesError::Layer { digest: descriptor.digest.clone(), source },
                    });
                }
            },
        };
        let failed = |source| ImagesError::Read { digest: descriptor.digest.clone(), source };
        let writer = tee.finish().map_err(failed)?;
        if unpacked.is_some() {
            hit(Point::ImageLayerUnpacked);
        }
        self.committed(writer.commit(descriptor.size, Some(&descriptor.digest), labels))?;
        hit(Point::ImageLayerStored);
        Ok(unpacked)
    }

    async fn unpack_stored(
        self: &Arc<Self>,
        route: &Route,
        subject: &Subject,
        layer: Option<Layer>,
    ) -> Result<Option<(Layer, Applied)>, ImagesError> {
        let Some(mut layer) = layer else { return Ok(None) };
        let (this, scope, digest) = (self.clone(), route.scope.clone(), subject.descriptor.digest.clone());
        blocking(move || {
            let file = this.content.reader(&scope, &digest)?.into_file();
            let applied = layer
                .unpack(file, Algorithm::Sha256, Limits::default())
                .map_err(|source| ImagesError::Layer { digest: digest.clone(), source })?;
            if let Some(found) = &applied.compressed.0
                && digest.algorithm() == found.algorithm()
                && *found != digest
            {
                return Err(ImagesError::Damaged { wanted: digest, found: found.clone() });
            }
            Ok(Some((layer, applied)))
        })
        .await
    }
}

/// Fetches from `offset` on. `Err(None)` if the taker gave up, which says why itself.
async fn download(
    from: &Repository,
    subject: &Subject,
    offset: u64,
    to: mpsc::Sender<Piece>,
    progress: &Progress,
) -> Result<(), Option<ImagesError>> {
    // the content store verifies the whole when it is committed
    let mut blob = from.blob(&subject.descriptor, offset).unverified();
    let mut pace = Pace::new();
    while let Some(piece) = blob.next().await.map_err(|e| Some(ImagesError::fetch(&subject.descriptor)(e)))? {
        if pace.due() {
            progress.blob("downloading", subject, blob.offset());
        }
        to.send(Piece::Bytes(piece)).await.map_err(|_| None)?;
    }
    to.send(Piece::End).await.map_err(|_| None)
}

#[cfg(test)]
mod tests {
    use lifecycle_content::ContentStore;
    use lifecycle_metadata::Metadata;
    use wharf_registry::{Client, Config, Credentials, Descriptor};
    use wharf_vocab::Digest;

    use super::*;
    use crate::images::Images;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_blob_that_another_has_just_finished_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(dir.path()).unwrap();
        let content = ContentStore::open(&dir.path().join("content"), metadata.clone()).unwrap();
        let inner = Images::new(metadata, content.clone()).0;
        let scope = Scope::new("default", None);
        let digest = Digest::sha256(b"layer");
        let descriptor = Descriptor::new("application/vnd.oci.image.layer.v1.tar", digest.clone(), 5);
        let subject = Subject::new(&descriptor, &[]);
        let options = WriteOptions { reference: &subject.name, total: 5, expected: Some(&digest) };
        let mut other = content.writer(&scope, &options).unwrap();
        other.write(b"layer").unwrap();

        // nobody is asked there
        let client = Client::new(Config::default()).unwrap();
        let from = client.repository("127.0.0.1:1", "a/b", Credentials::Anonymous).unwrap();
        let route = Route { scope: scope.clone(), from: Some(from), progress: Progress::default() };
        let turn = inner.turn(&scope, &digest);
        let bringing = tokio::spawn({
            let inner = inner.clone();
            async move { inner.bring(&route, &subject, None).await.map(drop) }
        });
        while turn.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        // it looks for the blob, and then for the ingest now and then
        tokio::time::sleep(2 * POLL).await;
        tokio::task::spawn_blocking(move || other.commit(5, None, Labels::new())).await.unwrap().unwrap();
        bringing.await.unwrap().unwrap();
    }
}
