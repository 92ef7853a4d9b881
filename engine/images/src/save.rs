//! Saving images as one archive that is both: an OCI layout, and what `docker load` of any age reads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use engine_backend::{BackendError, ContentReader, ResourceKind};
use serde_json::{Value, json};
use wharf_kinds::Kind;
use wharf_registry::{Descriptor, media_types};
use wharf_vocab::{ImageReference, Platform};

use crate::error::StoreError;
use crate::images::Images;
use crate::lease::LeaseGuard;
use crate::lookup::{LookupError, Via, find_in};
use crate::stored::{self, StoredImage};

const BLOCK: usize = 512;

/// Why images were not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("no image was named")]
    Nothing,
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("content {digest} has changed its size")]
    Size { digest: String },
}

impl SaveError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Nothing => Kind::InvalidArgument,
            Self::Lookup(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Backend(error) => error.kind(),
            Self::Size { .. } => Kind::DataLoss,
        }
    }
}

/// A piece of an archive.
enum Part {
    Bytes(Bytes),
    /// A file from the content store.
    Blob(Descriptor),
}

/// An archive on its way out.
pub struct SavedArchive {
    images: Images,
    /// Keeps the content while it is read; given back on drop.
    lease: Option<LeaseGuard>,
    parts: VecDeque<Part>,
    reading: Option<Reading>,
}

struct Reading {
    reader: ContentReader,
    digest: String,
    size: u64,
    done: u64,
}

/// An image with the tags it is saved under.
struct Chosen {
    image: std::sync::Arc<StoredImage>,
    tags: BTreeSet<ImageReference>,
}

impl Images {
    /// Plans an archive: a name with a tag takes that tag, one without all tags of the repository, an id or digest
    /// the image without names.
    ///
    /// # Errors
    /// If a name leads to no image, or content is missing; no byte was given out then.
    pub async fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<SavedArchive, SaveError> {
        let chosen = self.choose(names, platform).await?;
        let lease = LeaseGuard::take(self.backend(), "save").await?;
        for chosen in &chosen {
            let image = &chosen.image;
            for content in image.layers.iter().chain([&image.config, &image.manifest]) {
                let digest = &content.digest;
                match self.backend().content_info(digest.as_str()).await {
                    Err(error) if error.is_not_found() => {
                        let (image, digest) = (image.target.digest.clone(), digest.clone());
                        return Err(StoreError::Incomplete { image, digest }.into());
                    }
                    other => other?,
                };
            }
            let manifest = image.manifest.digest.as_str();
            self.backend().lease_add(lease.lease(), ResourceKind::Content, manifest).await?;
        }
        for chosen in &chosen {
            let id = chosen.image.id().as_str();
            self.publish_event("save", id, id);
        }
        let parts = parts(&chosen);
        Ok(SavedArchive { images: self.clone(), lease: Some(lease), parts, reading: None })
    }

    async fn choose(&self, names: &[String], platform: Option<&Platform>) -> Result<Vec<Chosen>, SaveError> {
        if names.is_empty() {
            return Err(SaveError::Nothing);
        }
        let catalog = self.catalog().await?;
        let mut chosen: BTreeMap<String, Chosen> = BTreeMap::new();
        let mut order = Vec::new();
        for name in names {
            let mut found = Vec::new();
            let parsed = ImageReference::parse(name).ok();
            let bare = parsed.as_ref().filter(|r| r.tag().is_none() && r.digest().is_none());
            if let Some(repository) = bare {
                for known in catalog.values() {
                    let tags: BTreeSet<_> =
                        known.tags().into_iter().filter(|t| t.name() == repository.name()).collect();
                    if !tags.is_empty() {
                        found.push((known.clone(), tags));
                    }
                }
            }
            if found.is_empty() {
                let (known, via) = find_in(&catalog, name)?;
                let tags = match via {
                    Via::Name(reference) if reference.tag().is_some() => BTreeSet::from([reference]),
                    _ => BTreeSet::new(),
                };
                found.push((known, tags));
            }
            for (known, tags) in found {
                let image = match platform {
                    None => known.image.clone(),
                    Some(_) => {
                        stored::read(self.backend(), &self.inner.cache, &known.image.target, platform).await?
                    }
                };
                let id = image.id().to_string();
                if !chosen.contains_key(&id) {
                    order.push(id.clone());
                }
                chosen.entry(id).or_insert_with(|| Chosen { image, tags: BTreeSet::new() }).tags.extend(tags);
            }
        }
        Ok(order.iter().filter_map(|id| chosen.remove(id)).collect())
    }
}

impl SavedArchive {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// If content cannot be read; the archive is incomplete then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SaveError> {
        loop {
            if let Some(reading) = &mut self.reading {
                if let Some(chunk) = reading.reader.next().await? {
                    reading.done += chunk.len() as u64;
                    return Ok(Some(chunk.into()));
                }
                let (done, size) = (reading.done, reading.size);
                if done != size {
                    return Err(SaveError::Size { digest: reading.digest.clone() });
                }
                self.reading = None;
                let padding = padding(size);
                if !padding.is_empty() {
                    return Ok(Some(padding));
                }
            }
            match self.parts.pop_front() {
                Some(Part::Bytes(bytes)) => return Ok(Some(bytes)),
                Some(Part::Blob(blob)) => {
                    let reader = self.images.backend().content_read(blob.digest.as_str(), 0, 0).await?;
                    let digest = blob.digest.to_string();
                    self.reading = Some(Reading { reader, digest, size: blob.size, done: 0 });
                }
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.release().await;
                    }
                    return Ok(None);
                }
            }
        }
    }
}

fn parts(chosen: &[Chosen]) -> VecDeque<Part> {
    let mut blobs: BTreeMap<String, Descriptor> = BTreeMap::new();
    let (mut index, mut manifests) = (Vec::new(), Vec::new());
    for Chosen { image, tags } in chosen {
        for content in image.layers.iter().chain([&image.config, &image.manifest]) {
            blobs.insert(path_of(content), content.clone());
        }
        index.extend(index_entries(image, tags));
        manifests.push(json!({
            "Config": path_of(&image.config),
            "RepoTags": (!tags.is_empty()).then(|| tags.iter().map(ImageReference::familiar).collect::<Vec<_>>()),
            "Layers": image.layers.iter().map(path_of).collect::<Vec<_>>(),
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_types::OCI_INDEX, "manifests": index});
    let mut parts = VecDeque::new();
    for folder in ["blobs/", "blobs/sha256/"] {
        parts.push_back(Part::Bytes(header(folder, 0, tar::EntryType::Directory)));
    }
    for (path, blob) in blobs {
        parts.push_back(Part::Bytes(header(&path, blob.size, tar::EntryType::Regular)));
        parts.push_back(Part::Blob(blob));
    }
    let layout = json!({"imageLayoutVersion": "1.0.0"});
    for (path, document) in
        [("index.json", index), ("manifest.json", Value::Array(manifests)), ("oci-layout", layout)]
    {
        let text = document.to_string();
        let size = text.len() as u64;
        parts.push_back(Part::Bytes(header(path, size, tar::EntryType::Regular)));
        parts.push_back(Part::Bytes(text.into()));
        parts.push_back(Part::Bytes(padding(size)));
    }
    // two empty blocks end an archive
    parts.push_back(Part::Bytes(Bytes::from_static(&[0; 2 * BLOCK])));
    parts
}

/// One entry for each tag, or one without a name.
fn index_entries(image: &StoredImage, tags: &BTreeSet<ImageReference>) -> Vec<Value> {
    let mut entry = json!({
        "mediaType": image.manifest.media_type,
        "digest": image.manifest.digest,
        "size": image.manifest.size,
    });
    let platform = image.document.platform();
    entry["platform"] = json!({"architecture": platform.architecture, "os": platform.os});
    if tags.is_empty() {
        return vec![entry];
    }
    let named = |tag: &ImageReference| {
        let mut entry = entry.clone();
        entry["annotations"] = json!({
            "io.containerd.image.name": tag.to_string(),
            "org.opencontainers.image.ref.name": tag.tag(),
        });
        entry
    };
    tags.iter().map(named).collect()
}

fn path_of(content: &Descriptor) -> String {
    format!("blobs/{}/{}", content.digest.algorithm().as_str(), content.digest.hex())
}

fn header(path: &str, size: u64, kind: tar::EntryType) -> Bytes {
    let mut header = tar::Header::new_gnu();
    // every path here is shorter than the field; a digest's algorithm and digits have a fixed form
    header.as_old_mut().name[..path.len().min(100)].copy_from_slice(&path.as_bytes()[..path.len().min(100)]);
    header.set_entry_type(kind);
    header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Bytes::copy_from_slice(header.as_bytes())
}

fn padding(size: u64) -> Bytes {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { Bytes::new() } else { Bytes::from_static(&ZEROS[over..]) }
}
