//! Images into an archive: an OCI layout that is at the same time what `docker load` takes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use lifecycle_metadata::Scope;
use serde_json::json;
use wharf_registry::{Descriptor, media_types};
use wharf_vocab::{Digest, ImageReference, Platform, PlatformMatcher};

use crate::error::ImagesError;
use crate::images::{Images, Inner, blocking};
use crate::import::{DockerImage, IMAGE_NAME, REF_NAME};
use crate::progress::Progress;
use crate::tree::{Config, Selection, Tree};

/// An image and the name it is to have in the archive.
#[derive(Debug, Clone)]
pub struct Named {
    /// Empty for none.
    pub name: String,
    pub target: Descriptor,
}

/// What goes into an archive.
#[derive(Debug, Clone, Default)]
pub struct Export {
    pub images: Vec<Named>,
    /// None for all.
    pub platforms: Vec<Platform>,
    /// Leave out `manifest.json`.
    pub skip_docker: bool,
    /// Leave out layers that stay with their publishers.
    pub skip_foreign: bool,
}

impl Images {
    /// Writes the images with all they consist of. Documents are stored as they are: digests stay the same.
    pub async fn export(
        &self,
        scope: &Scope,
        export: Export,
        out: impl Write + Send + 'static,
    ) -> Result<(), ImagesError> {
        let selection =
            Selection { platforms: export.platforms.clone(), partial: true, ..Selection::default() };
        let mut trees = Vec::new();
        for image in &export.images {
            let none = Progress::default();
            trees.push(self.0.tree(scope, &image.target, &image.name, &selection, None, &none).await?);
        }
        let (inner, scope) = (self.0.clone(), scope.clone());
        blocking(move || inner.write_archive(&scope, &export, &trees, out)).await
    }
}

impl Inner {
    fn write_archive(
        self: &Arc<Self>,
        scope: &Scope,
        export: &Export,
        trees: &[Tree],
        out: impl Write,
    ) -> Result<(), ImagesError> {
        let mut out = tar::Builder::new(out);
        let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
        for tree in trees {
            blobs.extend(tree.documents.iter().map(|(d, _)| (d.digest.clone(), d.size)));
            for image in &tree.images {
                let layers = image.layers.iter().filter(|l| !(export.skip_foreign && l.is_foreign()));
                for blob in layers.chain([&image.config]) {
                    // foreign layers may never have been fetched
                    if !blob.is_foreign() || self.content.info(scope, &blob.digest).is_ok() {
                        blobs.insert(blob.digest.clone(), blob.size);
                    }
                }
            }
        }
        file(&mut out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for digest in blobs.keys() {
            let reader = self.content.reader(scope, digest)?;
            let size = reader.size();
            append(&mut out, &place(digest), size, reader.into_file().take(size))?;
        }
        file(&mut out, "index.json", index(&export.images).as_bytes())?;
        if !export.skip_docker {
            let manifest = self.docker_manifest(scope, export, trees)?;
            if !manifest.is_empty() {
                let text = serde_json::to_vec(&manifest).map_err(|e| ImagesError::Archive(e.to_string()))?;
                file(&mut out, "manifest.json", &text)?;
            }
        }
        out.into_inner().and_then(|mut out| out.flush()).map_err(ImagesError::Write)
    }

    /// What `docker load` reads: for each image that of the host's platform, or the one there is.
    fn docker_manifest(
        &self,
        scope: &Scope,
        export: &Export,
        trees: &[Tree],
    ) -> Result<Vec<DockerImage>, ImagesError> {
        let mut found: Vec<DockerImage> = Vec::new();
        let host = export.platforms.first().cloned().unwrap_or_else(Platform::host);
        let matcher = PlatformMatcher::only(&host);
        for (image, tree) in export.images.iter().zip(trees) {
            let mut best = None;
            for parts in &tree.images {
                let kind = parts.config.media_type.as_str();
                if !matches!(kind, media_types::OCI_CONFIG | media_types::DOCKER_CONFIG) {
                    continue;
                }
                let platform = match &parts.platform {
                    Some(platform) => Some(platform.clone()),
                    None => Config::parse(&parts.config.digest, &self.read(scope, &parts.config.digest)?)?
                        .platform(),
                };
                let rank = platform.and_then(|platform| matcher.rank(&platform));
                let only = (tree.images.len() == 1).then_some(usize::MAX);
                if let Some(rank) = rank.or(only)
                    && best.as_ref().is_none_or(|(other, _)| rank < *other)
                {
                    best = Some((rank, parts));
                }
            }
            let Some((_, parts)) = best else { continue };
            let config = place(&parts.config.digest);
            let tag = ImageReference::parse(&image.name).ok().filter(|name| name.tag().is_some());
            let tag = tag.map(|name| name.familiar());
            match found.iter_mut().find(|other| other.config == config) {
                Some(other) => other.repo_tags.get_or_insert_default().extend(tag),
                None => found.push(DockerImage {
                    config,
                    repo_tags: Some(tag.into_iter().collect()),
                    layers: parts.layers.iter().map(|layer| place(&layer.digest)).collect(),
                }),
            }
        }
        Ok(found)
    }
}

fn index(images: &[Named]) -> String {
    let entry = |image: &Named| {
        let mut descriptor = image.target.clone();
        if !image.name.is_empty() {
            descriptor.annotations.insert(IMAGE_NAME.into(), image.name.clone());
            let tag = ImageReference::parse(&image.name).ok().and_then(|name| name.tag().map(str::to_owned));
            descriptor.annotations.insert(REF_NAME.into(), tag.unwrap_or_else(|| image.name.clone()));
        }
        descriptor
    };
    let manifests: Vec<Descriptor> = images.iter().map(entry).collect();
    json!({ "schemaVersion": 2, "mediaType": media_types::OCI_INDEX, "manifests": manifests }).to_string()
}

fn place(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

fn file(out: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> Result<(), ImagesError> {
    append(out, path, bytes.len() as u64, bytes)
}

/// The same images make the same archive: no times, nobody's ids.
fn append(
    out: &mut tar::Builder<impl Write>,
    path: &str,
    size: u64,
    data: impl Read,
) -> Result<(), ImagesError> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o444);
    header.set_mtime(0);
    out.append_data(&mut header, path, data).map_err(ImagesError::Write)
}
