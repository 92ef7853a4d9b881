//! containerd.services.diff.v1

mod compare;

use lifecycle_snapshots::apply_layer;
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::diff::v1 as api;
use wharf_containerd::containerd::types;
use wharf_kinds::Kind;

use crate::status::status;
use crate::storage::{Storage, blocking, scope};
use crate::wire;

/// What a layer is once it is unpacked, whatever it was called.
const UNCOMPRESSED: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) struct DiffService(pub(crate) Storage);

#[tonic::async_trait]
impl api::diff_server::Diff for DiffService {
    /// Unpacks a blob of the content store into the mounts, and gives the descriptor of its uncompressed form.
    async fn apply(
        &self,
        request: Request<api::ApplyRequest>,
    ) -> Result<Response<api::ApplyResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let layer = wire::descriptor_from(wire::required(request.diff, "diff")?)?;
        if !is_layer(&layer.media_type) {
            let text = format!(
                "no processor for media type {:?}, which is no layer of an image: not implemented",
                layer.media_type
            );
            return Err(status(Kind::Unimplemented, text));
        }
        let mounts = wire::mounts_from(request.mounts);
        let digest = layer.digest.clone();
        let reader = blocking(move || storage.content.reader(&scope, &digest)).await?;
        let algorithm = layer.digest.algorithm();
        let sync = request.sync_fs;
        let applied = blocking(move || apply_layer(reader.into_file(), &mounts, algorithm, sync)).await?;
        let (digest, size) = &applied.compressed;
        let digest = digest.as_ref().map_or("", |digest| digest.as_str());
        if digest != layer.digest.as_str() || (layer.size > 0 && wire::signed(*size) != layer.size) {
            // it was verified when it came: the disk has changed it since
            let text = format!("blob {} is damaged: it has digest {digest} and {size} bytes", layer.digest);
            return Err(status(Kind::DataLoss, text));
        }
        let (digest, size) = applied.uncompressed;
        let applied = types::Descriptor {
            media_type: UNCOMPRESSED.into(),
            digest: digest.into(),
            size: wire::signed(size),
            ..Default::default()
        };
        Ok(Response::new(api::ApplyResponse { applied: Some(applied) }))
    }

    /// Puts the layer between two sets of mounts into the content store.
    async fn diff(&self, request: Request<api::DiffRequest>) -> Result<Response<api::DiffResponse>, Status> {
        let scope = scope(&request)?;
        let storage = self.0.clone();
        let request = request.into_inner();
        let diff = blocking(move || compare::compare(&storage, &scope, request)).await?;
        Ok(Response::new(api::DiffResponse { diff: Some(diff) }))
    }
}

/// Layers, whatever their compression: that is told from the bytes. Without a type they are taken for one, as
/// containerd's oldest clients give none.
fn is_layer(media_type: &str) -> bool {
    let (base, suffix) = media_type.split_once('+').unwrap_or((media_type, ""));
    let is_oci = matches!(
        base,
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.oci.image.layer.nondistributable.v1.tar"
    );
    let is_docker = matches!(
        base,
        "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd"
    );
    media_type.is_empty()
        || is_oci && matches!(suffix, "" | "gzip" | "zstd")
        || is_docker && suffix.is_empty()
}

#[cfg(test)]
mod tests;
