//! Manifests and indexes: OCI's and Docker's schema 2, which differ in media types alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_kinds::Kind;
use wharf_vocab::{Digest, Platform, PlatformMatcher};

/// Largest manifest or index accepted, in bytes (the distribution specification's bound).
pub const MAX_MANIFEST: usize = 4 << 20;
/// Largest image config accepted, in bytes.
pub const MAX_CONFIG: usize = 8 << 20;
/// Most layers of an image: what overlayfs can stack, with room for the writable one.
const MAX_LAYERS: usize = 499;
const MAX_ENTRIES: usize = 1024;

/// Media types by name.
pub mod media_types {
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

    /// Whether content of this type is an index, a list or a manifest of an image.
    pub fn is_manifest(media_type: &str) -> bool {
        is_index(media_type) || matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    /// Whether content of this type lists manifests.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_LIST)
    }
}

use media_types as mt;

/// What is asked for, best first. Schema 1 is named so that a registry that has nothing else says so.
pub(crate) const ACCEPTED: [&str; 6] = [
    mt::OCI_INDEX,
    mt::OCI_MANIFEST,
    mt::DOCKER_LIST,
    mt::DOCKER_MANIFEST,
    mt::DOCKER_SCHEMA1_SIGNED,
    mt::DOCKER_SCHEMA1,
];

/// Why bytes are no manifest that can be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest is malformed: {0}")]
    Malformed(String),
    /// The text is Docker's; callers add the image's name where Docker has it.
    #[error("Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed.")]
    Schema1,
    #[error("unsupported media type {0}")]
    MediaType(String),
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoMatch(Platform),
    #[error("image has {found} {what}, more than {limit}")]
    TooMany { what: &'static str, found: usize, limit: usize },
}

impl ManifestError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Malformed(_) | Self::Schema1 | Self::MediaType(_) => Kind::InvalidArgument,
            Self::NoMatch(_) => Kind::NotFound,
            Self::TooMany { .. } => Kind::ResourceExhausted,
        }
    }
}

/// A pointer to content: what it is, its digest and its size in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Where else the content can be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "none_is_no_url")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "none_is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Some writers put `null` for no URLs.
fn none_is_no_url<'de, D>(from: D) -> Result<Vec<String>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Some writers put `null` for no annotations.
fn none_is_empty<'de, D>(from: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// How a layer is packed.
    ///
    /// # Errors
    /// [`ManifestError::MediaType`] if it is no layer that can be unpacked.
    pub fn layer_encoding(&self) -> Result<LayerEncoding, ManifestError> {
        match self.media_type.as_str() {
            mt::OCI_LAYER | mt::DOCKER_LAYER | "application/vnd.oci.image.layer.nondistributable.v1.tar" => {
                Ok(LayerEncoding::Tar)
            }
            mt::OCI_LAYER_GZIP
            | mt::DOCKER_LAYER_GZIP
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Ok(LayerEncoding::Gzip),
            mt::OCI_LAYER_ZSTD
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Ok(LayerEncoding::Zstd),
            other => Err(ManifestError::MediaType(other.chars().take(256).collect())),
        }
    }

    /// Whether the layer stays with its publisher: it may be fetched and is never pushed or exported along.
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.")
    }

    fn is_image_config(&self) -> bool {
        matches!(self.media_type.as_str(), mt::OCI_CONFIG | mt::DOCKER_CONFIG)
    }
}

/// How a layer's archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerEncoding {
    Tar,
    Gzip,
    Zstd,
}

/// An image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    pub media_type: String,
    pub config: Descriptor,
    /// Lowest first.
    pub layers: Vec<Descriptor>,
}

/// Manifests for several platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
}

/// Either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    Image(ImageManifest),
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Wire {
    /// Refuses what is too large, of the first schema, or can be read in two ways.
    fn parse(hint: &str, bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::TooMany {
                what: "bytes of manifest",
                found: bytes.len(),
                limit: MAX_MANIFEST,
            });
        }
        if matches!(hint, mt::DOCKER_SCHEMA1 | mt::DOCKER_SCHEMA1_SIGNED) {
            return Err(ManifestError::Schema1);
        }
        let wire: Wire =
            serde_json::from_slice(bytes).map_err(|e| ManifestError::Malformed(e.to_string()))?;
        if wire.schema_version == 1 || wire.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        // a document that can be read both ways means different things to different readers: CVE-2021-41190
        if wire.manifests.is_some() && (wire.layers.is_some() || wire.config.is_some()) {
            return Err(ManifestError::Malformed("it is an index and an image at once".into()));
        }
        if mt::is_manifest(hint) && !wire.media_type.is_empty() && wire.media_type != hint {
            return Err(ManifestError::Malformed(format!(
                "its media type is {} where {hint} was announced",
                wire.media_type.chars().take(256).collect::<String>()
            )));
        }
        Ok(wire)
    }
}

impl Manifest {
    /// Reads a manifest. `hint` is the media type it came with; the document's own field must not contradict it.
    pub fn parse(hint: &str, bytes: &[u8]) -> Result<Self, ManifestError> {
        let wire = Wire::parse(hint, bytes)?;
        let own_type = if wire.media_type.is_empty() && mt::is_manifest(hint) {
            hint.to_owned()
        } else {
            wire.media_type
        };
        if let Some(manifests) = wire.manifests {
            return Self::index(own_type, manifests);
        }
        let (Some(config), Some(layers)) = (wire.config, wire.layers) else {
            return Err(ManifestError::Malformed("it has neither manifests nor config and layers".into()));
        };
        Self::image(own_type, config, layers)
    }

    fn index(media_type: String, manifests: Vec<Descriptor>) -> Result<Self, ManifestError> {
        let media_type = checked(media_type, mt::OCI_INDEX, &[mt::OCI_INDEX, mt::DOCKER_LIST])?;
        if manifests.len() > MAX_ENTRIES {
            return Err(ManifestError::TooMany {
                what: "manifests",
                found: manifests.len(),
                limit: MAX_ENTRIES,
            });
        }
        Ok(Self::Index(Index { media_type, manifests }))
    }

    fn image(media_type: String, config: Descriptor, layers: Vec<Descriptor>) -> Result<Self, ManifestError> {
        let media_type = checked(media_type, mt::OCI_MANIFEST, &[mt::OCI_MANIFEST, mt::DOCKER_MANIFEST])?;
        if !config.is_image_config() {
            return Err(ManifestError::MediaType(config.media_type.chars().take(256).collect()));
        }
        if layers.len() > MAX_LAYERS {
            return Err(ManifestError::TooMany { what: "layers", found: layers.len(), limit: MAX_LAYERS });
        }
        for layer in &layers {
            layer.layer_encoding()?;
        }
        Ok(Self::Image(ImageManifest { media_type, config, layers }))
    }

    /// The media type to record and send.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Image(image) => &image.media_type,
            Self::Index(index) => &index.media_type,
        }
    }
}

fn checked(media_type: String, default: &str, allowed: &[&str]) -> Result<String, ManifestError> {
    match media_type.as_str() {
        "" => Ok(default.to_owned()),
        known if allowed.contains(&known) => Ok(media_type),
        other => Err(ManifestError::MediaType(other.chars().take(256).collect())),
    }
}

/// What a document of an image points to, as far as copying it is concerned: artifacts and attestations, which
/// nothing here can run or unpack, are read as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Children {
    /// An index or a list.
    Manifests(Vec<Descriptor>),
    /// A manifest: its config, and its layers, lowest first.
    Parts { config: Descriptor, layers: Vec<Descriptor> },
}

impl Children {
    /// Reads a document of the given media type, which its own field must not contradict.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, ManifestError> {
        let wire = Wire::parse(media_type, bytes)?;
        let (found, limit, what) = match (wire.manifests, wire.config) {
            (Some(manifests), _) if manifests.len() <= MAX_ENTRIES => return Ok(Self::Manifests(manifests)),
            (Some(manifests), _) => (manifests.len(), MAX_ENTRIES, "manifests"),
            (None, Some(config)) => {
                let layers = wire.layers.unwrap_or_default();
                if layers.len() <= MAX_LAYERS {
                    return Ok(Self::Parts { config, layers });
                }
                (layers.len(), MAX_LAYERS, "layers")
            }
            (None, None) => {
                return Err(ManifestError::Malformed("it has neither manifests nor a config".into()));
            }
        };
        Err(ManifestError::TooMany { what, found, limit })
    }
}

impl Index {
    /// The entry that serves the platform best; an entry that names no platform serves any, but badly. Entries
    /// that are no images (attestations say `unknown/unknown`) serve none.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor, ManifestError> {
        let matcher = PlatformMatcher::only(platform);
        let rank = |entry: &&Descriptor| match &entry.platform {
            Some(platform) => matcher.rank(platform),
            None => mt::is_manifest(&entry.media_type).then_some(usize::MAX),
        };
        let ranked = self.manifests.iter().filter_map(|e| Some((rank(&e)?, e)));
        let best = ranked.min_by_key(|(rank, _)| *rank);
        best.map(|(_, entry)| entry).ok_or_else(|| ManifestError::NoMatch(platform.clone()))
    }
}

#[cfg(test)]
mod tests;
