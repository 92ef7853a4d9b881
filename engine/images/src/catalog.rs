//! All images: the daemon's records, grouped by image id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use engine_backend::BackendError;
use futures_util::{StreamExt, stream};
use wharf_vocab::{Digest, ImageReference};

use crate::images::Images;
use crate::name::RecordName;
use crate::stored::{self, StoredImage};

/// Images read at the same time.
const PARALLEL: usize = 16;

/// One record of the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Exactly as the daemon has it.
    pub raw: String,
    pub name: RecordName,
    pub updated_at: SystemTime,
    pub image: Arc<StoredImage>,
}

/// An image and every record that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub image: Arc<StoredImage>,
    pub records: Vec<Record>,
}

impl Known {
    /// Names with a tag, sorted.
    pub fn tags(&self) -> Vec<ImageReference> {
        let tagged = self.records.iter().filter_map(|r| match &r.name {
            RecordName::Tagged(reference) => Some(reference.clone()),
            _ => None,
        });
        let mut tags: Vec<_> = tagged.collect();
        tags.sort();
        tags
    }

    /// Names with a digest, sorted: those that have a record, and those of the repositories that a tagged image was
    /// pulled from.
    pub fn digests(&self) -> Vec<ImageReference> {
        let mut digests = Vec::new();
        for record in &self.records {
            match &record.name {
                RecordName::Digested(reference) => {
                    digests.extend(reference.digest().map(|d| reference.with_digest(d.clone())));
                }
                RecordName::Tagged(reference) if record.image.sources.contains(&reference.name()) => {
                    digests.push(reference.with_digest(record.image.target.digest.clone()));
                }
                _ => {}
            }
        }
        digests.sort();
        digests.dedup();
        digests
    }

    /// Tagged by nothing.
    pub fn is_dangling(&self) -> bool {
        !self.records.iter().any(|r| matches!(r.name, RecordName::Tagged(_)))
    }

    pub fn last_tagged(&self) -> Option<SystemTime> {
        self.records.iter().map(|r| r.updated_at).max()
    }
}

/// Every image by its id.
pub(crate) type Catalog = BTreeMap<Digest, Known>;

impl Images {
    /// Reads the daemon's records. One whose content cannot be read for any platform is left out: other clients of
    /// the daemon keep records that are no images of ours.
    pub(crate) async fn catalog(&self) -> Result<Catalog, BackendError> {
        let records = self.backend().image_list(&[]).await?;
        let read = stream::iter(records).map(|record| async move {
            let target = stored::from_backend(&record.target)?;
            match stored::read(self.backend(), &self.inner.cache, &target, None).await {
                Ok(image) => Some(Record {
                    name: RecordName::of(&record.name),
                    raw: record.name,
                    updated_at: record.updated_at,
                    image,
                }),
                Err(error) => {
                    tracing::debug!(name = record.name, %error, "record is no usable image");
                    None
                }
            }
        });
        let records: Vec<Option<Record>> = read.buffered(PARALLEL).collect().await;
        let mut catalog = Catalog::new();
        for record in records.into_iter().flatten() {
            let known = catalog
                .entry(record.image.id().clone())
                .or_insert_with(|| Known { image: record.image.clone(), records: Vec::new() });
            known.records.push(record);
        }
        Ok(catalog)
    }

    /// How many images there are.
    pub async fn count(&self) -> Result<usize, BackendError> {
        Ok(self.catalog().await?.len())
    }
}
