//! Config, manifest and index of a pulled image, labelled so that the collector goes from each to what it refers to.

use engine_backend::Labels;
use wharf_registry::{Descriptor, Manifest, media_types};
use wharf_vocab::label_names;

use super::{PullError, Remote};
use crate::images::Images;
use crate::lease::LeaseGuard;

impl Images {
    /// Writes config and manifests with the labels by which the collector goes from each to what it refers to.
    pub(super) async fn put_metadata(
        &self,
        lease: &LeaseGuard,
        remote: &Remote,
        source: &Labels,
    ) -> Result<(), PullError> {
        self.put_blob(lease, "config", &remote.config, &remote.config_bytes, source).await?;
        let mut labels = manifest_labels(&remote.config, &remote.layers);
        labels.extend(source.clone());
        let manifest = &remote.manifest;
        self.put_blob(lease, "manifest", &manifest.descriptor, &manifest.bytes, &labels).await?;
        if let Manifest::Index(index) = &remote.target.manifest {
            let mut labels = index_labels(&index.manifests);
            labels.extend(source.clone());
            let target = &remote.target;
            self.put_blob(lease, "index", &target.descriptor, &target.bytes, &labels).await?;
        }
        Ok(())
    }

    async fn put_blob(
        &self,
        lease: &LeaseGuard,
        kind: &str,
        descriptor: &Descriptor,
        bytes: &[u8],
        labels: &Labels,
    ) -> Result<(), PullError> {
        let _held = self.inner.locks.hold(&format!("blob {}", descriptor.digest)).await;
        let ingest = format!("{kind}-{}", descriptor.digest);
        let digest = descriptor.digest.as_str();
        self.backend().content_put(lease.lease(), &ingest, digest, bytes, labels).await?;
        Ok(())
    }
}

/// What a manifest refers to, as containerd's clients label it.
pub(crate) fn manifest_labels(config: &Descriptor, layers: &[Descriptor]) -> Labels {
    let mut labels = Labels::new();
    labels.insert(format!("{}.config", label_names::GC_REF_CONTENT), config.digest.to_string());
    for (index, layer) in layers.iter().enumerate() {
        labels.insert(format!("{}.l.{index}", label_names::GC_REF_CONTENT), layer.digest.to_string());
    }
    labels
}

/// What an index refers to, as containerd's clients label it.
pub(crate) fn index_labels(manifests: &[Descriptor]) -> Labels {
    let images = manifests.iter().filter(|m| media_types::is_manifest(&m.media_type));
    images
        .enumerate()
        .map(|(index, m)| (format!("{}.m.{index}", label_names::GC_REF_CONTENT), m.digest.to_string()))
        .collect()
}
