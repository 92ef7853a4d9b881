//! Images as they lie in the content store: manifest, config and layers of one platform.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use engine_backend::Backend;
use wharf_registry::{Descriptor, Index, MAX_CONFIG, MAX_MANIFEST, Manifest, ManifestError};
use wharf_vocab::{Digest, Platform, PlatformMatcher, label_names};

use crate::document::{Document, chain_ids};
use crate::error::StoreError;

/// An image of one platform.
#[derive(Debug)]
pub struct StoredImage {
    /// What the record points at: an index, or the manifest itself.
    pub target: Descriptor,
    pub manifest: Descriptor,
    /// Its digest is the image's id.
    pub config: Descriptor,
    /// Lowest first.
    pub layers: Vec<Descriptor>,
    pub document: Document,
    /// The names of the layers' snapshots, lowest first.
    pub chain: Vec<Digest>,
    /// Repositories, such as `docker.io/library/debian`, that the target was pulled from.
    pub sources: Vec<String>,
}

impl StoredImage {
    /// Docker's image id.
    pub fn id(&self) -> &Digest {
        &self.config.digest
    }

    /// The snapshot that containers are created on; none for an image without layers.
    pub fn top(&self) -> Option<&Digest> {
        self.chain.last()
    }
}

/// Images by the digest of their target and the platform asked for. Content never changes under its digest.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<(String, String), Arc<StoredImage>>>);

const MAX_CACHED: usize = 2048;

impl Cache {
    fn get(&self, key: &(String, String)) -> Option<Arc<StoredImage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn keep(&self, key: (String, String), image: Arc<StoredImage>) {
        let mut images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if images.len() >= MAX_CACHED {
            images.clear();
        }
        images.insert(key, image);
    }

    /// To be called when more of a target has arrived, or it is known to come from one more repository.
    pub fn forget(&self, target: &Digest) {
        let mut images = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        images.retain(|(digest, _), _| digest != target.as_str());
    }
}

/// The backend's form of a descriptor.
pub(crate) fn to_backend(descriptor: &Descriptor) -> engine_backend::Descriptor {
    engine_backend::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: descriptor.size,
        annotations: Default::default(),
    }
}

/// The typed form of a backend's descriptor; none if its digest is malformed.
pub(crate) fn from_backend(descriptor: &engine_backend::Descriptor) -> Option<Descriptor> {
    let digest = Digest::parse(&descriptor.digest).ok()?;
    Some(Descriptor::new(&descriptor.media_type, digest, descriptor.size))
}

/// Reads the image behind a target. Without a platform this machine's comes first, and then whatever is there.
pub(crate) async fn read(
    backend: &Backend,
    cache: &Cache,
    target: &Descriptor,
    platform: Option<&Platform>,
) -> Result<Arc<StoredImage>, StoreError> {
    let key = (target.digest.to_string(), platform.map(Platform::to_string).unwrap_or_default());
    if let Some(known) = cache.get(&key) {
        return Ok(known);
    }
    let reader = Reader { backend, target };
    let image = match reader.manifest(target).await? {
        Manifest::Image(manifest) => reader.image(target.clone(), manifest).await?,
        Manifest::Index(index) => reader.choose(&index, platform).await?,
    };
    if let Some(wanted) = platform
        && !PlatformMatcher::only(wanted).matches(&image.document.platform())
    {
        return Err(StoreError::NoPlatform { image: target.digest.clone(), platform: wanted.clone() });
    }
    let image = Arc::new(image);
    cache.keep(key, image.clone());
    Ok(image)
}

struct Reader<'a> {
    backend: &'a Backend,
    target: &'a Descriptor,
}

impl Reader<'_> {
    async fn content(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>, StoreError> {
        match self.backend.content_read_all(digest.as_str(), limit).await {
            Err(error) if error.is_not_found() => {
                Err(StoreError::Incomplete { image: self.target.digest.clone(), digest: digest.clone() })
            }
            other => Ok(other?),
        }
    }

    async fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, StoreError> {
        let bytes = self.content(&descriptor.digest, MAX_MANIFEST).await?;
        Manifest::parse(&descriptor.media_type, &bytes).map_err(|source| self.malformed(source))
    }

    async fn image(
        &self,
        descriptor: Descriptor,
        manifest: wharf_registry::ImageManifest,
    ) -> Result<StoredImage, StoreError> {
        let bytes = self.content(&manifest.config.digest, MAX_CONFIG).await?;
        let document = Document::parse(&bytes, manifest.layers.len())
            .map_err(|reason| StoreError::Config { config: manifest.config.digest.clone(), reason })?;
        let info = self.backend.content_info(self.target.digest.as_str()).await?;
        Ok(StoredImage {
            target: self.target.clone(),
            manifest: descriptor,
            chain: chain_ids(document.diff_ids()),
            config: manifest.config,
            layers: manifest.layers,
            document,
            sources: sources(&info.labels),
        })
    }

    /// The best entry of an index of which manifest and config are here.
    async fn choose(&self, index: &Index, platform: Option<&Platform>) -> Result<StoredImage, StoreError> {
        let host = Platform::host();
        let matcher = PlatformMatcher::only(platform.unwrap_or(&host));
        let rank = |entry: &Descriptor| match &entry.platform {
            Some(p) => matcher.rank(p).or((platform.is_none() && p.os != "unknown").then_some(usize::MAX)),
            None => Some(usize::MAX),
        };
        let mut ranked: Vec<_> = index.manifests.iter().filter_map(|e| Some((rank(e)?, e))).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        for (_, entry) in ranked {
            let found = match self.manifest(entry).await {
                Ok(Manifest::Image(manifest)) => self.image(entry.clone(), manifest).await,
                // an index within an index names no image that Docker would run
                Ok(Manifest::Index(_)) => continue,
                Err(error) => Err(error),
            };
            match found {
                Err(StoreError::Incomplete { .. }) => {}
                Err(StoreError::Manifest { source: ManifestError::MediaType(_), .. }) => {}
                other => return other,
            }
        }
        let platform = platform.cloned().unwrap_or(host);
        Err(StoreError::NoPlatform { image: self.target.digest.clone(), platform })
    }

    fn malformed(&self, source: ManifestError) -> StoreError {
        StoreError::Manifest { image: self.target.digest.clone(), source }
    }
}

/// Repositories by the labels that clients of containerd set on pulled content.
fn sources(labels: &engine_backend::Labels) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in labels {
        if let Some(domain) = key.strip_prefix(label_names::DISTRIBUTION_SOURCE) {
            found.extend(value.split(',').filter(|p| !p.is_empty()).map(|path| format!("{domain}/{path}")));
        }
    }
    found
}
