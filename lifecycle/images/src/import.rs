//! Images out of an archive: an OCI layout, or what `docker save` writes.

use std::collections::HashMap;
use std::io::Read;

use lifecycle_content::WriteOptions;
use lifecycle_metadata::Scope;
use serde::{Deserialize, Serialize};
use wharf_archive::{Compression, Decompressor, EntryKind, TarError, TarReader};
use wharf_failpoints::{Point, hit};
use wharf_kinds::Kind;
use wharf_registry::{Children, Descriptor, MAX_CONFIG, media_types};
use wharf_vocab::{Digest, ImageReference, Labels};

use crate::error::ImagesError;
use crate::images::{Images, Inner};

/// Entries of an archive, and links followed for one path.
const MAX_ENTRIES: usize = 100_000;
const MAX_LINKS: usize = 40;
const PIECE: usize = 256 << 10;

/// The full name of an image in its entry of an index.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
/// The tag, or whatever stands for a name.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What an archive held: all of it is in the content store.
#[derive(Debug, Clone)]
pub struct Imported {
    pub index: Descriptor,
    /// The index's entries, with their annotations.
    pub manifests: Vec<Descriptor>,
}

/// An entry of `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerImage {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Vec<String>,
}

/// Files of the archive by path.
#[derive(Default)]
struct Found {
    blobs: HashMap<String, (Digest, u64, Compression)>,
    links: HashMap<String, String>,
    index: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
    is_layout: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestOut<'a> {
    schema_version: u32,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<&'a [Descriptor]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<&'a [Descriptor]>,
}

impl Images {
    /// Stores what an archive holds, which may be compressed as a whole. With `compress` layers that `docker save`
    /// wrote plain are stored as gzip. Blocks; the scope needs a lease.
    pub fn import(&self, scope: &Scope, archive: impl Read, compress: bool) -> Result<Imported, ImagesError> {
        let inner = &*self.0;
        let found = inner.store_files(scope, archive)?;
        hit(Point::ImageImported);
        match (&found.index, &found.manifest) {
            (Some(index), _) if found.is_layout => {
                let manifests = match Children::parse(media_types::OCI_INDEX, index) {
                    Ok(Children::Manifests(manifests)) => manifests,
                    Ok(Children::Parts { .. }) => {
                        return Err(ImagesError::Archive("index.json is not an index".into()));
                    }
                    Err(source) => {
                        return Err(ImagesError::Document { digest: Digest::sha256(index), source });
                    }
                };
                let index = inner.document_of(scope, media_types::OCI_INDEX, index)?;
                Ok(Imported { index, manifests })
            }
            (_, Some(manifest)) => inner.docker_images(scope, manifest, &found, compress),
            _ => Err(ImagesError::Archive("unrecognized image format".into())),
        }
    }
}

impl Inner {
    fn document_of(&self, scope: &Scope, kind: &str, bytes: &[u8]) -> Result<Descriptor, ImagesError> {
        let descriptor = Descriptor::new(kind, Digest::sha256(bytes), bytes.len() as u64);
        self.store(scope, &descriptor, bytes, Labels::new())?;
        Ok(descriptor)
    }

    fn store_files(&self, scope: &Scope, archive: impl Read) -> Result<Found, ImagesError> {
        let read = |source| TarError::Io { at: 0, source };
        let mut archive = TarReader::new(Decompressor::new(archive)?);
        let mut found = Found::default();
        let mut entries = 0;
        while let Some(entry) = archive.next_entry()? {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(ImagesError::Archive(format!("it has more than {MAX_ENTRIES} entries")));
            }
            let path = cleaned("", &String::from_utf8_lossy(&entry.path));
            let link = String::from_utf8_lossy(&entry.link);
            match entry.kind {
                EntryKind::Symlink => {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let target = cleaned(folder, &link);
                    found.links.insert(path, target);
                }
                EntryKind::HardLink => {
                    let target = cleaned("", &link);
                    found.links.insert(path, target);
                }
                EntryKind::File => match path.as_str() {
                    "index.json" => found.index = Some(bounded(&mut archive, entry.size)?),
                    "manifest.json" => found.manifest = Some(bounded(&mut archive, entry.size)?),
                    "oci-layout" => found.is_layout = is_layout(&bounded(&mut archive, entry.size)?)?,
                    _ => {
                        let blob = self.store_file(scope, &path, entry.size, &mut archive)?;
                        found.blobs.insert(path, blob);
                    }
                },
                _ => {}
            }
        }
        // what comes behind the end belongs to the stream, and its sender waits for it to be taken
        let mut rest = archive.into_inner();
        std::io::copy(&mut rest, &mut std::io::sink()).map_err(read)?;
        rest.drain().map_err(read)?;
        Ok(found)
    }

    fn store_file(
        &self,
        scope: &Scope,
        path: &str,
        size: u64,
        data: &mut impl Read,
    ) -> Result<(Digest, u64, Compression), ImagesError> {
        let expected = path
            .strip_prefix("blobs/")
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(algorithm, hex)| Digest::parse(&format!("{algorithm}:{hex}")).ok());
        // blobs of layouts are told by their digests, other files by where they stand
        let name = match &expected {
            Some(digest) => format!("import-{digest}"),
            None => format!("import-{}", Digest::sha256(path.as_bytes())),
        };
        let options = WriteOptions { reference: &name, total: size, expected: expected.as_ref() };
        let mut head = Vec::new();
        let failed = |source| ImagesError::Tar(TarError::Io { at: 0, source });
        let mut writer = match self.content.writer(scope, &options) {
            Ok(writer) => Some(writer),
            Err(error) if error.kind() == Kind::AlreadyExists => None,
            Err(error) => return Err(error.into()),
        };
        let here = |writer: &lifecycle_content::Writer| {
            size > 0 && writer.progress().offset == size && Some(writer.digest()) == expected
        };
        let complete = writer.as_ref().is_some_and(here);
        if let Some(writer) = writer.as_mut().filter(|_| !complete) {
            writer.truncate(0)?;
        }
        let mut buffer = vec![0; PIECE];
        loop {
            let count = data.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            head.extend_from_slice(&buffer[..count.min(4_usize.saturating_sub(head.len()))]);
            if let Some(writer) = writer.as_mut().filter(|_| !complete) {
                writer.write(&buffer[..count])?;
            }
        }
        let compression = Compression::detect(&head);
        let Some(writer) = writer else {
            let digest = expected.ok_or(ImagesError::Broken)?;
            return Ok((digest, size, compression));
        };
        let digest = expected.clone().unwrap_or_else(|| writer.digest());
        self.committed(writer.commit(size, expected.as_ref(), Labels::new()))?;
        Ok((digest, size, compression))
    }

    /// Makes manifests for what `docker save` wrote without any.
    fn docker_images(
        &self,
        scope: &Scope,
        manifest: &[u8],
        found: &Found,
        compress: bool,
    ) -> Result<Imported, ImagesError> {
        let images: Vec<DockerImage> = serde_json::from_slice(manifest)
            .map_err(|e| ImagesError::Archive(format!("manifest.json: {e}")))?;
        let mut manifests = Vec::new();
        for image in &images {
            let (digest, size, _) = found.file(&image.config)?;
            let config = Descriptor::new(media_types::DOCKER_CONFIG, digest, size);
            let layer = |path: &String| {
                let (digest, size, compression) = found.file(path)?;
                let kind = match compression {
                    Compression::None if compress => return self.compressed_layer(scope, &digest),
                    Compression::None => media_types::DOCKER_LAYER,
                    Compression::Gzip => media_types::DOCKER_LAYER_GZIP,
                    Compression::Zstd => media_types::OCI_LAYER_ZSTD,
                };
                Ok(Descriptor::new(kind, digest, size))
            };
            let layers = image.layers.iter().map(layer).collect::<Result<Vec<_>, ImagesError>>()?;
            let out = ManifestOut {
                schema_version: 2,
                media_type: media_types::DOCKER_MANIFEST,
                config: Some(&config),
                layers: Some(&layers),
                manifests: None,
            };
            let mut descriptor = self.document_of(scope, media_types::DOCKER_MANIFEST, &encoded(&out)?)?;
            let config = crate::tree::Config::parse(&config.digest, &self.read(scope, &config.digest)?)?;
            descriptor.platform = config.platform();
            let tags = image.repo_tags.as_deref().unwrap_or_default();
            if tags.is_empty() {
                manifests.push(descriptor.clone());
            }
            for tag in tags {
                let reference = ImageReference::parse(tag)
                    .map_err(|e| ImagesError::Archive(format!("{tag:?}: {e}")))?
                    .with_default_tag();
                let mut named = descriptor.clone();
                named.annotations.insert(IMAGE_NAME.into(), reference.to_string());
                let tag = reference.tag().unwrap_or_default().to_owned();
                named.annotations.insert(REF_NAME.into(), tag);
                manifests.push(named);
            }
        }
        let out = ManifestOut {
            schema_version: 2,
            media_type: media_types::OCI_INDEX,
            config: None,
            layers: None,
            manifests: Some(&manifests),
        };
        let index = self.document_of(scope, media_types::OCI_INDEX, &encoded(&out)?)?;
        Ok(Imported { index, manifests })
    }
}

impl Found {
    fn file(&self, path: &str) -> Result<(Digest, u64, Compression), ImagesError> {
        let mut path = cleaned("", path);
        for _ in 0..MAX_LINKS {
            if let Some(blob) = self.blobs.get(&path) {
                return Ok(blob.clone());
            }
            let Some(target) = self.links.get(&path) else { break };
            path = target.clone();
        }
        Err(ImagesError::Archive(format!("manifest.json names {path:?}, which is not in the archive")))
    }
}

/// Whether the file says that this is a layout; one of a version not known here is refused.
fn is_layout(file: &[u8]) -> Result<bool, ImagesError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        #[serde(default)]
        image_layout_version: String,
    }
    let layout: Layout =
        serde_json::from_slice(file).map_err(|e| ImagesError::Archive(format!("oci-layout: {e}")))?;
    match layout.image_layout_version.as_str() {
        "" => Ok(false),
        "1.0.0" => Ok(true),
        other => {
            let other: String = other.chars().take(64).collect();
            Err(ImagesError::Archive(format!("unsupported OCI version {other}")))
        }
    }
}

fn encoded(document: &impl Serialize) -> Result<Vec<u8>, ImagesError> {
    serde_json::to_vec(document).map_err(|e| ImagesError::Archive(e.to_string()))
}

fn bounded(data: &mut impl Read, size: u64) -> Result<Vec<u8>, ImagesError> {
    if size > MAX_CONFIG as u64 {
        return Err(ImagesError::Archive(format!("a document has {size} bytes, more than {MAX_CONFIG}")));
    }
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).map_err(|source| TarError::Io { at: 0, source })?;
    Ok(bytes)
}

/// A path of the archive without what means nothing; `..` stays inside.
fn cleaned(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let folder = if path.starts_with('/') { "" } else { folder };
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(cleaned("", "./blobs//sha256/./x"), "blobs/sha256/x");
        assert_eq!(cleaned("a/b", "../c/layer.tar"), "a/c/layer.tar");
        assert_eq!(cleaned("a", "../../../x"), "x");
        assert_eq!(cleaned("a", "/x"), "x");
    }
}
