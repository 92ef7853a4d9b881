//! The layer between two sets of mounts as a blob.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use lifecycle_content::{ContentError, WriteOptions, Writer};
use lifecycle_metadata::Scope;
use lifecycle_snapshots::{CompareError, Compression, compare as write_layer};
use wharf_containerd::containerd::services::diff::v1 as api;
use wharf_containerd::containerd::types;
use wharf_kinds::Kind;
use wharf_vocab::{Digest, Labels, label_names};

use crate::storage::{Failure, Storage};
use crate::wire;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Why there is no such blob.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiffFailure {
    #[error("unsupported diff media type: {0}: not implemented")]
    MediaType(String),
    #[error(transparent)]
    Compare(#[from] CompareError),
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl Failure for DiffFailure {
    fn kind_of(&self) -> Kind {
        match self {
            DiffFailure::MediaType(_) => Kind::Unimplemented,
            DiffFailure::Compare(e) => e.kind(),
            DiffFailure::Content(e) => e.kind(),
        }
    }
}

/// Compares, compresses and stores in one pass. The ingest of a client's own name is begun anew and left for it on
/// failure; one of ours is forgotten.
pub(super) fn compare(
    storage: &Storage,
    scope: &Scope,
    request: api::DiffRequest,
) -> Result<types::Descriptor, DiffFailure> {
    let media_type = if request.media_type.is_empty() { TAR_GZIP.to_owned() } else { request.media_type };
    let compression = match media_type.as_str() {
        TAR => Compression::None,
        TAR_GZIP => Compression::Gzip,
        TAR_ZSTD => Compression::Zstd,
        _ => return Err(DiffFailure::MediaType(media_type)),
    };
    let is_ours = request.r#ref.is_empty();
    let reference = if is_ours { unique() } else { request.r#ref };
    let options = WriteOptions { reference: &reference, total: 0, expected: None };
    let mut writer = storage.content.writer(scope, &options)?;
    let (lower, upper) = (wire::mounts_from(request.left), wire::mounts_from(request.right));
    let latest = request.source_date_epoch.map(|time| time.seconds);
    let mut labels = wire::labels(request.labels);
    let mut store = || -> Result<Digest, DiffFailure> {
        writer.truncate(0)?;
        let mut ingest = Ingest { writer: &mut writer, failure: None };
        let compared =
            write_layer(&lower, &upper, compression, latest, &mut ingest).map(|(digest, _)| digest);
        match (compared, ingest.failure) {
            (_, Some(failure)) => Err(failure.into()),
            (Err(e), None) => Err(e.into()),
            (Ok(digest), None) => Ok(digest),
        }
    };
    let uncompressed = match store() {
        Ok(uncompressed) => uncompressed,
        Err(failure) => {
            drop(writer);
            if is_ours && let Err(error) = storage.content.abort(scope, &reference) {
                tracing::warn!(%error, reference, "forgetting a diff that failed");
            }
            return Err(failure);
        }
    };
    if compression != Compression::None {
        labels.insert(label_names::UNCOMPRESSED.into(), uncompressed.to_string());
    }
    let digest = writer.digest();
    let info = match writer.commit(0, Some(&digest), labels.clone()) {
        Ok(info) => info,
        Err(e) if e.kind() == Kind::AlreadyExists => relabelled(storage, scope, &digest, &labels)?,
        Err(e) => return Err(e.into()),
    };
    Ok(types::Descriptor {
        media_type,
        digest: info.digest.into(),
        size: wire::signed(info.size),
        ..Default::default()
    })
}

/// The blob is there already, perhaps without saying what it is uncompressed.
fn relabelled(
    storage: &Storage,
    scope: &Scope,
    digest: &Digest,
    labels: &Labels,
) -> Result<lifecycle_metadata::BlobInfo, ContentError> {
    let info = storage.content.info(scope, digest)?;
    let name = label_names::UNCOMPRESSED;
    match labels.get(name).filter(|_| !info.labels.contains_key(name)) {
        Some(value) => {
            let added = Labels::from([(name.to_owned(), value.clone())]);
            storage.content.update(scope, digest, &added, &[format!("labels.{name}")])
        }
        None => Ok(info),
    }
}

/// A name for an ingest that nobody else has.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("diff-{}-{}-{}", now.as_nanos(), std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The blob being written. Its own failures say more than an `io::Error` would.
struct Ingest<'a> {
    writer: &'a mut Writer,
    failure: Option<ContentError>,
}

impl Write for Ingest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).map_err(|failure| {
            let text = failure.to_string();
            self.failure = Some(failure);
            io::Error::other(text)
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
