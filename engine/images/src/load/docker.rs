//! `manifest.json` archives: configs and layers without manifests, which are made here.

use serde::Deserialize;
use wharf_docker::decode;
use wharf_registry::{Descriptor, LayerEncoding, media_types};
use wharf_vocab::{Digest, ImageReference};

use super::contents::Contents;
use super::{LoadError, Loaded};
use crate::document::Document;
use crate::images::Images;
use crate::lease::LeaseGuard;
use crate::pull::manifest_labels;

const MANIFEST: &str = "manifest.json";
/// Images in one archive.
pub(super) const MAX_IMAGES: usize = 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Entry {
    pub config: String,
    pub repo_tags: Vec<String>,
    pub layers: Vec<String>,
}

/// The entries of `manifest.json`; none if there is no such file.
pub(super) fn entries(contents: &Contents) -> Result<Vec<Entry>, LoadError> {
    let Some(bytes) = contents.file(MANIFEST) else { return Ok(Vec::new()) };
    let malformed = |reason: String| LoadError::Malformed { file: MANIFEST.into(), reason };
    let entries: Vec<Entry> = decode::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
    if entries.len() > MAX_IMAGES {
        return Err(LoadError::TooMuch { what: "images", limit: MAX_IMAGES as u64 });
    }
    Ok(entries)
}

/// Tags as written in an archive; a tag is required.
pub(super) fn names(tags: &[String]) -> Result<Vec<ImageReference>, LoadError> {
    tags.iter()
        .map(|tag| {
            let parsed =
                ImageReference::parse(tag).map_err(|source| LoadError::Name { name: tag.clone(), source })?;
            Ok(parsed.with_default_tag())
        })
        .collect()
}

impl Images {
    pub(super) async fn take_docker(
        &self,
        lease: &LeaseGuard,
        contents: &Contents,
    ) -> Result<Vec<Loaded>, LoadError> {
        let mut loaded = Vec::new();
        for entry in entries(contents)? {
            loaded.push(self.take_entry(lease, contents, &entry).await?);
        }
        Ok(loaded)
    }

    async fn take_entry(
        &self,
        lease: &LeaseGuard,
        contents: &Contents,
        entry: &Entry,
    ) -> Result<Loaded, LoadError> {
        let names = names(&entry.repo_tags)?;
        let missing = |path: &str| LoadError::Missing { file: MANIFEST, path: path.to_owned() };
        let config_bytes = contents.file(&entry.config).ok_or_else(|| missing(&entry.config))?;
        let config = contents.blob(&entry.config).ok_or_else(|| missing(&entry.config))?;
        let document = Document::parse(config_bytes, entry.layers.len())
            .map_err(|reason| LoadError::Malformed { file: entry.config.clone(), reason })?;
        let mut layers = Vec::new();
        for (path, diff_id) in entry.layers.iter().zip(document.diff_ids()) {
            let stored = contents.blob(path).ok_or_else(|| missing(path))?;
            if stored.encoding == LayerEncoding::Tar && stored.digest != *diff_id {
                return Err(LoadError::WrongDigest { path: path.clone(), actual: stored.digest.to_string() });
            }
            layers.push(Descriptor::new(layer_type(stored.encoding), stored.digest.clone(), stored.size));
        }
        let config = Descriptor::new(media_types::OCI_CONFIG, config.digest.clone(), config.size);
        let target = self.put_manifest(lease, &config, &layers).await?;
        Ok(Loaded { target, names })
    }

    /// Writes the manifest of an image whose config and layers are in the content store.
    pub(crate) async fn put_manifest(
        &self,
        lease: &LeaseGuard,
        config: &Descriptor,
        layers: &[Descriptor],
    ) -> Result<Descriptor, engine_backend::BackendError> {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_types::OCI_MANIFEST,
            "config": config,
            "layers": layers,
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        let labels = manifest_labels(config, layers);
        let ingest = format!("manifest-{digest}");
        let _held = self.inner.locks.hold(&format!("blob {digest}")).await;
        self.backend().content_put(lease.lease(), &ingest, digest.as_str(), &bytes, &labels).await?;
        Ok(Descriptor::new(media_types::OCI_MANIFEST, digest, bytes.len() as u64))
    }
}

/// The media type of a layer.
pub(crate) fn layer_type(encoding: LayerEncoding) -> &'static str {
    match encoding {
        LayerEncoding::Tar => media_types::OCI_LAYER,
        LayerEncoding::Gzip => media_types::OCI_LAYER_GZIP,
        LayerEncoding::Zstd => media_types::OCI_LAYER_ZSTD,
    }
}
