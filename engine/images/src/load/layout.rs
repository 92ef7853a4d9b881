//! OCI layouts: an index, and blobs by digest.

use wharf_registry::{Descriptor, ImageManifest, Manifest, media_types};
use wharf_vocab::{Digest, ImageReference, is_tag};

use super::contents::Contents;
use super::docker::{self, Entry, MAX_IMAGES};
use super::{LoadError, Loaded};
use crate::images::Images;
use crate::lease::LeaseGuard;
use crate::pull::{index_labels, manifest_labels};

const INDEX: &str = "index.json";
/// The full name, as containerd and Docker write it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// A tag alone, or a full name.
const OCI_NAME: &str = "org.opencontainers.image.ref.name";

impl Images {
    pub(super) async fn take_layout(
        &self,
        lease: &LeaseGuard,
        contents: &Contents,
    ) -> Result<Vec<Loaded>, LoadError> {
        let bytes = contents.file(INDEX).ok_or(LoadError::NoImage)?;
        let malformed = |reason: String| LoadError::Malformed { file: INDEX.into(), reason };
        let Manifest::Index(index) =
            Manifest::parse(media_types::OCI_INDEX, bytes).map_err(|e| malformed(e.to_string()))?
        else {
            return Err(malformed("it is a manifest and no index".into()));
        };
        if index.manifests.len() > MAX_IMAGES {
            return Err(LoadError::TooMuch { what: "images", limit: MAX_IMAGES as u64 });
        }
        // archives of both kinds have all names in the older file
        let entries = docker::entries(contents)?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for entry in &index.manifests {
            if !media_types::is_manifest(&entry.media_type) {
                continue;
            }
            let mut target = entry.clone();
            target.annotations.clear();
            target.platform = None;
            let config = self.take_target(lease, contents, &target, true).await?;
            let names = names_of(entry, config.as_ref(), &entries)?;
            match loaded.iter_mut().find(|l| l.target.digest == target.digest) {
                Some(known) => {
                    known.names.extend(names);
                    known.names.sort();
                    known.names.dedup();
                }
                None => loaded.push(Loaded { target, names }),
            }
        }
        Ok(loaded)
    }

    /// Labels a manifest or index of the archive, and what it leads to. Returns the config's digest of a manifest.
    async fn take_target(
        &self,
        lease: &LeaseGuard,
        contents: &Contents,
        target: &Descriptor,
        may_nest: bool,
    ) -> Result<Option<Digest>, LoadError> {
        let path = Contents::layout_path(&target.digest);
        let bytes = contents.file(&path).ok_or(LoadError::Missing { file: INDEX, path })?;
        let failed = |source| LoadError::Manifest { image: target.digest.clone(), source };
        match Manifest::parse(&target.media_type, bytes).map_err(failed)? {
            Manifest::Image(image) => {
                self.take_image(contents, target, &image).await?;
                Ok(Some(image.config.digest))
            }
            Manifest::Index(index) => {
                let mut found = 0;
                for entry in &index.manifests {
                    let is_here = contents.file(&Contents::layout_path(&entry.digest)).is_some();
                    if may_nest && is_here && media_types::is_manifest(&entry.media_type) {
                        // an attestation among the manifests is no image, and is kept as it is
                        match Box::pin(self.take_target(lease, contents, entry, false)).await {
                            Ok(_) => found += 1,
                            Err(LoadError::Manifest { .. }) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                if found == 0 {
                    return Err(LoadError::NoImage);
                }
                let labels = index_labels(&index.manifests);
                self.backend().content_set_labels(target.digest.as_str(), &labels).await?;
                Ok(None)
            }
        }
    }

    async fn take_image(
        &self,
        contents: &Contents,
        target: &Descriptor,
        image: &ImageManifest,
    ) -> Result<(), LoadError> {
        for content in image.layers.iter().chain([&image.config]) {
            let path = Contents::layout_path(&content.digest);
            let stored = contents.blob(&path);
            match stored {
                Some(stored) if stored.size == content.size => {}
                Some(stored) => {
                    let reason = format!("{path} has {} bytes, not {}", stored.size, content.size);
                    return Err(LoadError::Malformed { file: Contents::layout_path(&target.digest), reason });
                }
                None => return Err(LoadError::Missing { file: "manifest", path }),
            }
        }
        let labels = manifest_labels(&image.config, &image.layers);
        self.backend().content_set_labels(target.digest.as_str(), &labels).await?;
        Ok(())
    }
}

fn names_of(
    entry: &Descriptor,
    config: Option<&Digest>,
    entries: &[Entry],
) -> Result<Vec<ImageReference>, LoadError> {
    if let Some(name) = entry.annotations.get(CONTAINERD_NAME) {
        return docker::names(std::slice::from_ref(name));
    }
    if let Some(config) = config {
        let same = entries.iter().find(|e| e.config.contains(config.hex()));
        if let Some(same) = same.filter(|e| !e.repo_tags.is_empty()) {
            return docker::names(&same.repo_tags);
        }
    }
    match entry.annotations.get(OCI_NAME) {
        // a tag alone names no repository
        Some(name) if !is_tag(name) => docker::names(std::slice::from_ref(name)),
        _ => Ok(Vec::new()),
    }
}
