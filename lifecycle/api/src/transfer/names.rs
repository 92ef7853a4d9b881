//! Under which names an image is stored.

use std::time::SystemTime;

use lifecycle_images::Descriptor;
use lifecycle_metadata::{Image, Metadata, MetadataError, Scope};
use tonic::Status;
use wharf_containerd::containerd::types::transfer::ImageStore;
use wharf_kinds::Kind;

use crate::status::status;
use crate::wire;

/// The images that a transfer to the store makes of what came.
pub(super) fn names(store: &ImageStore, target: &Descriptor) -> Result<Vec<Image>, Status> {
    let own = Some(store.name.clone()).filter(|name| !name.is_empty());
    // a prefix alone is no name; with the digest behind it, it is one
    let extra = store.extra_references.iter().filter(|extra| !extra.is_prefix || extra.add_digest);
    let extra = extra.map(|extra| match extra.add_digest {
        true => format!("{}@{}", extra.name, target.digest),
        false => extra.name.clone(),
    });
    let names: Vec<String> = own.into_iter().chain(extra).collect();
    if names.is_empty() {
        return Err(status(Kind::NotFound, "no image name found: not found"));
    }
    Ok(names.into_iter().map(|name| image(name, store, target)).collect())
}

/// The images that one entry of an archive's index becomes: by its annotations, under the prefixes of the store.
pub(super) fn annotated(store: &ImageStore, target: &Descriptor) -> Vec<Image> {
    let mut names = Vec::new();
    for extra in store.extra_references.iter().filter(|extra| extra.is_prefix) {
        let digested = || format!("{}@{}", extra.name, target.digest);
        match annotation(target, &extra.name, !extra.allow_overwrite) {
            None if extra.add_digest => names.push(digested()),
            None => {}
            Some(name) => {
                names.push(name);
                if extra.add_digest && !extra.skip_named_digest {
                    names.push(digested());
                }
            }
        }
    }
    let mut target = target.clone();
    target.platform = None;
    names.into_iter().map(|name| image(name, store, &target)).collect()
}

/// The name that an entry says it has. A tag alone goes behind the prefix.
fn annotation(target: &Descriptor, prefix: &str, only_prefixed: bool) -> Option<String> {
    let said = |key: &str| target.annotations.get(key).filter(|name| !name.is_empty());
    if prefix.is_empty() {
        return None;
    }
    let (name, whole) = match said("io.containerd.image.name") {
        Some(name) => (name, true),
        None => (said("org.opencontainers.image.ref.name")?, false),
    };
    if !name.contains(['/', ':', '@']) {
        // a full name that is none is not mended
        return (!whole).then(|| format!("{prefix}:{name}"));
    }
    let behind = name.strip_prefix(prefix);
    let prefixed = behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']));
    (!only_prefixed || prefixed).then(|| name.clone())
}

fn image(name: String, store: &ImageStore, target: &Descriptor) -> Image {
    Image {
        name,
        labels: wire::labels(store.labels.clone()),
        target: lifecycle_metadata::Descriptor {
            media_type: target.media_type.clone(),
            digest: target.digest.clone(),
            size: wire::signed(target.size),
            annotations: target.annotations.clone(),
        },
        created: SystemTime::UNIX_EPOCH,
        updated: SystemTime::UNIX_EPOCH,
    }
}

/// Creates the image, or gives the name to this one.
pub(super) fn put(metadata: &Metadata, scope: &Scope, image: Image) -> Result<Image, MetadataError> {
    match metadata.images().create(scope, image.clone(), None) {
        Err(MetadataError::AlreadyExists(_)) => metadata.images().update(scope, &image, &[], None),
        other => other,
    }
}
