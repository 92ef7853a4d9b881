//! From layers in the content store to a chain of committed snapshots.

use std::collections::BTreeMap;

use engine_backend::{Labels, Lease};
use wharf_kinds::Kind;
use wharf_registry::{Descriptor, LayerEncoding};
use wharf_vocab::{Digest, label_names};

use crate::error::StoreError;
use crate::images::Images;
use crate::lease::unique;
use crate::stored::StoredImage;

/// One layer to be unpacked.
pub(crate) struct LayerPlan<'a> {
    pub layer: &'a Descriptor,
    pub diff_id: &'a Digest,
    /// The snapshot below; none for the lowest layer.
    pub parent: Option<&'a Digest>,
    /// The snapshot to be made.
    pub chain: &'a Digest,
}

impl<'a> LayerPlan<'a> {
    /// The plans for a stack, lowest first.
    pub fn stack(layers: &'a [Descriptor], diff_ids: &[&'a Digest], chain: &'a [Digest]) -> Vec<Self> {
        let parents = std::iter::once(None).chain(chain.iter().map(Some));
        layers
            .iter()
            .zip(diff_ids)
            .zip(parents.zip(chain))
            .map(|((layer, diff_id), (parent, chain))| Self { layer, diff_id, parent, chain })
            .collect()
    }
}

impl Images {
    /// Whether the snapshot is there.
    pub(crate) async fn has_snapshot(&self, chain: &Digest) -> Result<bool, StoreError> {
        match self.backend().snapshot_stat(chain.as_str()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the layer's snapshot unless it is there; its parent must be. Returns whether it made it.
    pub(crate) async fn unpack_layer(&self, lease: &Lease, plan: &LayerPlan<'_>) -> Result<bool, StoreError> {
        let _held = self.inner.locks.hold(&format!("chain {}", plan.chain)).await;
        if self.has_snapshot(plan.chain).await? {
            return Ok(false);
        }
        let key = unique(&format!("extract-{}", &plan.chain.hex()[..12]));
        let made = self.extract(lease, plan, &key).await;
        if made.is_err() || matches!(made, Ok(false)) {
            // what is half made is nobody's
            if let Err(error) = self.backend().snapshot_remove(&key).await {
                tracing::warn!(key, %error, "half-made snapshot is left to the collector");
            }
        }
        made
    }

    async fn extract(&self, lease: &Lease, plan: &LayerPlan<'_>, key: &str) -> Result<bool, StoreError> {
        let backend = self.backend();
        let labels: Labels = [(label_names::SNAPSHOT_REF.to_owned(), plan.chain.to_string())].into();
        let parent = plan.parent.map(Digest::as_str).unwrap_or_default();
        let mounts = match backend.snapshot_prepare(lease, key, parent, &labels).await {
            // somebody else's client has just made it
            Err(error) if error.kind() == Kind::AlreadyExists => return Ok(false),
            other => other?,
        };
        let failed = |source| StoreError::Unpack { layer: plan.layer.digest.clone(), source };
        let layer = crate::stored::to_backend(plan.layer);
        let applied = backend.diff_apply(&layer, &mounts).await.map_err(failed)?;
        if applied.digest != plan.diff_id.as_str() {
            return Err(StoreError::WrongLayer {
                layer: plan.layer.digest.clone(),
                expected: plan.diff_id.clone(),
                actual: applied.digest,
            });
        }
        match backend.snapshot_commit(lease, plan.chain.as_str(), key, &labels).await {
            Err(error) if error.kind() == Kind::AlreadyExists => return Ok(false),
            other => other?,
        }
        if !matches!(plan.layer.layer_encoding(), Ok(LayerEncoding::Tar)) {
            let labels = BTreeMap::from([(label_names::UNCOMPRESSED.to_owned(), plan.diff_id.to_string())]);
            backend.content_set_labels(plan.layer.digest.as_str(), &labels).await?;
        }
        Ok(true)
    }

    /// Ties the topmost snapshot to the image's config, so that the collector keeps it as long as the image.
    pub(crate) async fn keep_snapshots(
        &self,
        config: &Digest,
        top: Option<&Digest>,
    ) -> Result<(), StoreError> {
        let Some(top) = top else { return Ok(()) };
        let key = format!("{}{}", label_names::GC_REF_SNAPSHOT, self.backend().snapshotter());
        self.backend().content_set_labels(config.as_str(), &[(key, top.to_string())].into()).await?;
        Ok(())
    }

    /// Makes every snapshot of an image that is not there.
    pub(crate) async fn unpack(&self, lease: &Lease, image: &StoredImage) -> Result<(), StoreError> {
        let diff_ids: Vec<&Digest> = image.document.diff_ids().collect();
        for plan in LayerPlan::stack(&image.layers, &diff_ids, &image.chain) {
            self.unpack_layer(lease, &plan).await?;
        }
        self.keep_snapshots(image.id(), image.top()).await
    }
}
