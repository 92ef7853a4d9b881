//! Applying layers to snapshots, and making layers from them.

use wharf_containerd::containerd::services::diff::v1 as wire;
use wire::diff_client::DiffClient;

use crate::convert;
use crate::error::BackendError;
use crate::leases::Lease;
use crate::link::{Backend, Link, client};
use crate::types::{Descriptor, Labels, Mount};

impl Backend {
    /// Unpacks a layer that is in the content store onto mounts; returns the descriptor of the *uncompressed* tar
    /// (its digest is the layer's diff id).
    pub async fn diff_apply(&self, layer: &Descriptor, mounts: &[Mount]) -> Result<Descriptor, BackendError> {
        let request = wire::ApplyRequest {
            diff: Some(layer.clone().into()),
            mounts: convert::wire_mounts(mounts),
            ..Default::default()
        };
        let answer = self
            .change("apply layer", &layer.digest, None, |link| async move {
                client!(DiffClient<Link>, link).apply(request).await
            })
            .await?;
        Ok(answer.applied.unwrap_or_default().into())
    }

    /// Writes the difference between two mounted trees as a layer of `media_type` into the content store.
    pub async fn diff_create(
        &self,
        lease: &Lease,
        left: &[Mount],
        right: &[Mount],
        media_type: &str,
        reference: &str,
        labels: &Labels,
    ) -> Result<Descriptor, BackendError> {
        let request = wire::DiffRequest {
            left: convert::wire_mounts(left),
            right: convert::wire_mounts(right),
            media_type: media_type.to_owned(),
            r#ref: reference.to_owned(),
            labels: convert::wire_labels(labels),
            source_date_epoch: None,
        };
        let answer = self
            .change("make layer", reference, Some(lease), |link| async move {
                client!(DiffClient<Link>, link).diff(request).await
            })
            .await?;
        Ok(answer.diff.unwrap_or_default().into())
    }
}
