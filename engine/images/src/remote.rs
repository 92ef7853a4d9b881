//! Questions to registries that change nothing here.

use wharf_docker::image::{self, Distribution};
use wharf_registry::{Credentials, MAX_CONFIG, Manifest, RegistryError, Target};
use wharf_vocab::{ImageReference, Platform};

use crate::document::Document;
use crate::images::Images;
use crate::pull::PullError;

/// What clients call Docker Hub when they log in.
const HUB_ADDRESSES: [&str; 4] = ["", "index.docker.io", "registry-1.docker.io", "docker.io"];

impl Images {
    /// Whether a registry takes the credentials. The address is a host, or a URL as older clients write it.
    pub async fn login(&self, address: &str, credentials: Credentials) -> Result<(), RegistryError> {
        let host = address.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or_default();
        let domain = if HUB_ADDRESSES.contains(&host) { "docker.io" } else { host };
        self.inner.registry.login(domain, credentials).await
    }

    /// What a registry has under a name, without pulling it.
    pub async fn remote(
        &self,
        reference: &ImageReference,
        credentials: Credentials,
    ) -> Result<Distribution, PullError> {
        let failed = |error| PullError::registry(error, reference);
        let repository = self.inner.registry.repository(reference.domain(), reference.path(), credentials)?;
        let target = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Target::Digest(digest.clone()),
            (None, tag) => Target::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let found = repository.manifest(&target).await.map_err(failed)?;
        let platforms: Vec<Platform> = match &found.manifest {
            Manifest::Index(index) => index.manifests.iter().filter_map(|m| m.platform.clone()).collect(),
            Manifest::Image(manifest) => {
                let bytes = repository.blob_all(&manifest.config, MAX_CONFIG).await.map_err(failed)?;
                let document = Document::parse(&bytes, manifest.layers.len());
                document.map(|d| d.platform()).into_iter().collect()
            }
        };
        let shown = |p: Platform| image::Platform {
            architecture: p.architecture,
            os: p.os,
            os_version: p.os_version,
            variant: p.variant,
        };
        Ok(Distribution {
            descriptor: image::Descriptor {
                media_type: found.descriptor.media_type,
                digest: found.descriptor.digest.to_string(),
                size: i64::try_from(found.descriptor.size).unwrap_or(i64::MAX),
                ..image::Descriptor::default()
            },
            platforms: platforms.into_iter().map(shown).collect(),
        })
    }
}
