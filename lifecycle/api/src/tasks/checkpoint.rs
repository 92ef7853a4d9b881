//! Checkpoints in the content store: an archive of CRIU's images, and the container's spec beside it.

use std::collections::HashMap;
use std::io::{self, Write};

use lifecycle_content::{ContentError, WriteOptions, Writer};
use lifecycle_metadata::Scope;
use lifecycle_snapshots::{CompareError, Compression, LayerError, Mount, apply_layer, compare};
use lifecycle_tasks::{Origin, Staging, Tasks};
use prost::Message;
use prost_types::Any;
use tonic::Status;
use wharf_containerd::containerd::runc::v1::{CheckpointOptions, Options};
use wharf_containerd::containerd::types::Descriptor;
use wharf_kinds::Kind;
use wharf_vocab::Labels;

use super::refuse;
use crate::status::status;
use crate::storage::{Failure, Storage, blocking};
use crate::wire;

const IMAGES: &str = "application/vnd.containerd.container.criu.checkpoint.criu.tar";
const CONFIG: &str = "application/vnd.containerd.container.checkpoint.config.v1+proto";
/// The annotation of a checkpoint that is in a folder already.
const RESTORE_FROM: &str = "RestoreFromPath";

/// Why a checkpoint does not go into the content store or come out of it.
#[derive(Debug, thiserror::Error)]
enum CheckpointFailure {
    #[error("archive the checkpoint: {0}")]
    Archive(#[from] CompareError),
    #[error("unpack the checkpoint: {0}")]
    Unpack(#[from] LayerError),
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl Failure for CheckpointFailure {
    fn kind_of(&self) -> Kind {
        match self {
            CheckpointFailure::Archive(e) => e.kind(),
            CheckpointFailure::Unpack(e) => e.kind(),
            CheckpointFailure::Content(e) => e.kind(),
        }
    }
}

/// Where a task begins, by the request's checkpoint and runc's options. The first that names a place counts, in
/// containerd's order: the annotation, the options, the blob.
pub(super) async fn origin(
    tasks: &Tasks,
    storage: &Storage,
    scope: &Scope,
    checkpoint: Option<Descriptor>,
    options: Option<&Any>,
) -> Result<Origin, Status> {
    let in_options = restore_path(options)?;
    let Some(checkpoint) = checkpoint else {
        return Ok(if in_options.is_empty() { Origin::Fresh } else { Origin::Checkpoint(in_options) });
    };
    if let Some(path) = checkpoint.annotations.get(RESTORE_FROM) {
        return Ok(Origin::Checkpoint(path.clone()));
    }
    if !in_options.is_empty() {
        return Ok(Origin::Checkpoint(in_options));
    }
    if checkpoint.media_type != IMAGES {
        let text = format!("unsupported checkpoint type {:?}: invalid argument", checkpoint.media_type);
        return Err(status(Kind::InvalidArgument, text));
    }
    let blob = wire::descriptor_from(checkpoint)?;
    let staging = tasks.staging(&scope.namespace).map_err(refuse)?;
    let (storage, scope) = (storage.clone(), scope.clone());
    blocking(move || {
        let reader = storage.content.reader(&scope, &blob.digest)?;
        let folder = [bind(&staging, "rw")];
        apply_layer(reader.into_file(), &folder, blob.digest.algorithm(), false)?;
        Ok::<_, CheckpointFailure>(Origin::Staged(staging))
    })
    .await
}

/// Makes a checkpoint of a task and puts it into the content store; where the options name a folder it is left there
/// instead, and there are no descriptors.
pub(super) async fn save(
    tasks: &Tasks,
    storage: &Storage,
    scope: Scope,
    id: &str,
    options: Option<Any>,
) -> Result<Vec<Descriptor>, Status> {
    let named = checkpoint_path(options.as_ref())?;
    if !named.is_empty() {
        tasks.checkpoint(&scope.namespace, id, &named, options).await.map_err(refuse)?;
        return Ok(Vec::new());
    }
    // nothing is made for a task that is not there
    tasks.get(&scope.namespace, id, "").await.map_err(refuse)?;
    let staging = tasks.staging(&scope.namespace).map_err(refuse)?;
    let path = staging.path().to_string_lossy().into_owned();
    tasks.checkpoint(&scope.namespace, id, &path, options).await.map_err(refuse)?;
    let (storage, id) = (storage.clone(), id.to_owned());
    let record = storage.container(&scope.namespace, &id).map_err(crate::storage::refused)?;
    let spec = record.spec.map(wire::any).unwrap_or_default().encode_to_vec();
    blocking(move || {
        let images = put(&storage, &scope, IMAGES, &format!("checkpoint-{path}"), |blob| {
            compare(&[], &[bind(&staging, "ro")], Compression::None, None, blob)?;
            Ok(())
        })?;
        let config =
            put(&storage, &scope, CONFIG, &format!("checkpoint-{path}/spec"), |blob| blob.put(&spec))?;
        Ok::<_, CheckpointFailure>(vec![images, config])
    })
    .await
}

fn bind(staging: &Staging, access: &str) -> Mount {
    Mount {
        kind: "bind".into(),
        source: staging.path().to_string_lossy().into_owned(),
        target: String::new(),
        options: vec!["rbind".into(), access.into()],
    }
}

/// A blob of what `fill` writes; one that is there already is as good.
fn put(
    storage: &Storage,
    scope: &Scope,
    media_type: &str,
    reference: &str,
    fill: impl FnOnce(&mut Blob) -> Result<(), CheckpointFailure>,
) -> Result<Descriptor, CheckpointFailure> {
    let options = WriteOptions { reference, total: 0, expected: None };
    let mut blob = Blob { writer: storage.content.writer(scope, &options)?, failure: None };
    let filled = fill(&mut blob);
    let Blob { writer, failure } = blob;
    let filled = match failure {
        // says more than the write that it failed
        Some(failure) => Err(failure.into()),
        None => filled,
    };
    if let Err(failure) = filled {
        drop(writer);
        if let Err(error) = storage.content.abort(scope, reference) {
            tracing::warn!(%error, reference, "forgetting a checkpoint that failed");
        }
        return Err(failure);
    }
    let (digest, size) = (writer.digest(), writer.progress().offset);
    match writer.commit(0, Some(&digest), Labels::new()) {
        Err(error) if error.kind() != Kind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    Ok(Descriptor {
        media_type: media_type.into(),
        digest: digest.into(),
        size: wire::signed(size),
        annotations: HashMap::new(),
    })
}

/// A blob being written.
struct Blob {
    writer: Writer,
    failure: Option<ContentError>,
}

impl Blob {
    fn put(&mut self, bytes: &[u8]) -> Result<(), CheckpointFailure> {
        Ok(self.writer.write(bytes)?)
    }
}

impl Write for &mut Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.writer.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(failure) => {
                let error = io::Error::other(failure.to_string());
                self.failure = Some(failure);
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The checkpoint that runc options name to begin from; empty for none.
fn restore_path(options: Option<&Any>) -> Result<String, Status> {
    match options {
        Some(any) if names(any, "containerd.runc.v1.Options") => {
            let options = Options::decode(any.value.as_slice()).map_err(malformed)?;
            Ok(options.criu_image_path)
        }
        _ => Ok(String::new()),
    }
}

/// The task API that runc options name: an older way than the request's own fields. Its address and version.
#[allow(deprecated, reason = "clients of before those fields give it there")]
pub(super) fn task_api(options: Option<&Any>) -> Result<(String, u32), Status> {
    match options {
        Some(any) if names(any, "containerd.runc.v1.Options") => {
            let options = Options::decode(any.value.as_slice()).map_err(malformed)?;
            Ok((options.task_api_address, options.task_api_version))
        }
        _ => Ok((String::new(), 0)),
    }
}

/// Where runc's checkpoint options want the checkpoint; empty for one in the content store.
fn checkpoint_path(options: Option<&Any>) -> Result<String, Status> {
    match options {
        None => Ok(String::new()),
        Some(any) if names(any, "containerd.runc.v1.CheckpointOptions") => {
            Ok(CheckpointOptions::decode(any.value.as_slice()).map_err(malformed)?.image_path)
        }
        Some(any) => {
            let text = format!("invalid task checkpoint option {}: invalid argument", any.type_url);
            Err(status(Kind::InvalidArgument, text))
        }
    }
}

fn names(any: &Any, name: &str) -> bool {
    any.type_url.rsplit('/').next() == Some(name)
}

fn malformed(error: prost::DecodeError) -> Status {
    status(Kind::InvalidArgument, format_args!("malformed options: {error}: invalid argument"))
}
