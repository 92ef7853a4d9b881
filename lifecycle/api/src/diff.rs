//! containerd.services.diff.v1

mod compare;

use lifecycle_snapshots::{LayerError, ProcessorError, apply_layer};
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::diff::v1 as api;
use wharf_containerd::containerd::types;
use wharf_kinds::Kind;

use crate::status::status;
use crate::storage::{Failure, Storage, blocking, scope};
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
        let mounts = wire::mounts_from(request.mounts);
        let digest = layer.digest.clone();
        let content = storage.content.clone();
        let reader = blocking(move || content.reader(&scope, &digest)).await?;
        let (algorithm, sync) = (layer.digest.algorithm(), request.sync_fs);
        let (media_type, payloads) = (layer.media_type.clone(), request.payloads);
        let apply = move || -> Result<_, ApplyFailure> {
            let payload = |id: &str| payloads.get(id).map(prost::Message::encode_to_vec);
            let (found, mut stream) = storage.processors.open(&media_type, reader.into_file(), payload)?;
            if !is_layer(&found) {
                return Err(ApplyFailure::MediaType(found));
            }
            let is_changed = stream.is_changed();
            let applied = apply_layer(&mut stream, &mounts, algorithm, sync);
            // a program that failed says more than the archive that it broke off
            stream.finish()?;
            Ok((applied?, is_changed))
        };
        let (applied, is_changed) = blocking(apply).await?;
        let (digest, size) = &applied.compressed;
        let digest = digest.as_ref().map_or("", |digest| digest.as_str());
        let is_whole =
            digest == layer.digest.as_str() && (layer.size <= 0 || wire::signed(*size) == layer.size);
        // of what a processor was given nothing is known here
        if !is_whole && !is_changed {
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

/// Why a blob was not applied.
#[derive(Debug, thiserror::Error)]
enum ApplyFailure {
    #[error("failed to get stream processor for {0}: no processor for media-type: not implemented")]
    MediaType(String),
    #[error(transparent)]
    Processor(#[from] ProcessorError),
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl Failure for ApplyFailure {
    fn kind_of(&self) -> Kind {
        match self {
            ApplyFailure::MediaType(_) => Kind::Unimplemented,
            ApplyFailure::Processor(e) => e.kind(),
            ApplyFailure::Layer(e) => e.kind(),
        }
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
