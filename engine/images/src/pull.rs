//! Pulling: from a registry into content, snapshots and a name.
//!
//! Plan: resolve the name to a manifest for one platform, read its config, and from both know every layer, its
//! snapshot and what of it is here already. Execute: fetch layers side by side, unpack them in order as they arrive,
//! and last of all give the name. Until then a lease holds everything, so that a pull that ends early leaves nothing.

mod error;
mod fetch;
mod metadata;

use std::sync::Arc;

use engine_backend::Labels;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wharf_registry::{Credentials, Descriptor, FetchedManifest, MAX_CONFIG, Manifest, Repository, Target};
use wharf_vocab::{Digest, ImageReference, Platform, label_names};

pub use error::PullError;
pub(crate) use metadata::{index_labels, manifest_labels};

use crate::document::{Document, chain_ids};
use crate::error::StoreError;
use crate::images::Images;
use crate::lease::LeaseGuard;
use crate::name::RecordName;
use crate::progress::Progress;
use crate::stored;
use crate::unpack::LayerPlan;
use fetch::Fetch;

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// With a tag or digest, or with neither for every tag.
    pub reference: ImageReference,
    pub credentials: Credentials,
    /// This machine's if none is given.
    pub platform: Option<Platform>,
}

/// An image at the registry, for one platform.
struct Remote {
    /// What the name points at, with its bytes: an index or the manifest.
    target: FetchedManifest,
    manifest: FetchedManifest,
    config: Descriptor,
    config_bytes: Vec<u8>,
    layers: Vec<Descriptor>,
    document: Document,
    chain: Vec<Digest>,
}

/// Layer ids as Docker shows them.
fn short(digest: &Digest) -> &str {
    &digest.hex()[..12]
}

impl Images {
    /// Pulls one image, or all of a repository's tags, and tells how it goes on. Nothing is named before all of the
    /// image is here, verified and unpacked.
    pub async fn pull(&self, request: PullRequest, progress: &Progress) -> Result<(), PullError> {
        let reference = &request.reference;
        if reference.familiar_name() == "scratch" {
            return Err(PullError::Reserved);
        }
        let domain = reference.domain();
        let repository =
            self.inner.registry.repository(domain, reference.path(), request.credentials.clone())?;
        let is_new = if reference.tag().is_some() || reference.digest().is_some() {
            self.pull_one(&repository, reference, &request, progress).await?
        } else {
            let tags = repository.tags().await.map_err(|e| PullError::registry(e, reference))?;
            let mut is_new = false;
            for tag in tags {
                let Ok(tagged) = reference.with_tag(&tag) else { continue };
                is_new |= self.pull_one(&repository, &tagged, &request, progress).await?;
            }
            is_new
        };
        let shown = reference.familiar();
        let outcome = if is_new { "Downloaded newer image" } else { "Image is up to date" };
        progress.status("", format!("Status: {outcome} for {shown}")).await;
        self.publish_event("pull", &shown, &reference.familiar_name());
        Ok(())
    }

    async fn pull_one(
        &self,
        repository: &Repository,
        reference: &ImageReference,
        request: &PullRequest,
        progress: &Progress,
    ) -> Result<bool, PullError> {
        let wanted = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Target::Digest(digest.clone()),
            (None, tag) => Target::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let failed = |error| PullError::registry(error, reference);
        let resolved = repository.resolve(&wanted).await.map_err(failed)?;
        let heading = match &wanted {
            Target::Tag(tag) => tag.clone(),
            Target::Digest(_) => reference.to_string(),
        };
        let name = match &wanted {
            Target::Digest(digest) => reference.with_digest(digest.clone()),
            Target::Tag(_) => reference.clone(),
        };
        let from = format!("Pulling from {}", reference.path());
        if self.is_up_to_date(&name, &resolved, request.platform.as_ref()).await? {
            progress.status(&heading, from).await;
            progress.status("", format!("Digest: {}", resolved.digest)).await;
            return Ok(false);
        }
        let lease = LeaseGuard::take(self.backend(), "pull").await?;
        let remote = self.plan(repository, &resolved, &wanted, reference, request.platform.as_ref()).await?;
        progress.status(&heading, from).await;
        let done = self.execute(repository, &lease, reference, &remote, progress).await;
        if let Err(error) = done {
            lease.discard().await;
            return Err(error);
        }
        progress.status("", format!("Digest: {}", remote.target.descriptor.digest)).await;
        let is_new = self.publish(&name, &remote.target.descriptor).await?;
        lease.release().await;
        Ok(is_new)
    }

    /// Whether the name leads to this very target already, and all of it is here and unpacked.
    async fn is_up_to_date(
        &self,
        name: &ImageReference,
        resolved: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<bool, PullError> {
        match self.backend().image_get(&name.to_string()).await {
            Ok(record) if record.target.digest == resolved.digest.as_str() => {}
            Ok(_) => return Ok(false),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        debug_assert!(!matches!(RecordName::of(&name.to_string()), RecordName::Nameless));
        let host = Platform::host();
        let image = match stored::read(self.backend(), &self.inner.cache, resolved, platform).await {
            Ok(image) if platform.is_some() || image.document.platform().os == host.os => image,
            _ => return Ok(false),
        };
        for layer in &image.layers {
            match self.backend().content_info(layer.digest.as_str()).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        match image.top() {
            Some(top) => Ok(self.has_snapshot(top).await?),
            None => Ok(true),
        }
    }

    /// Reads manifest and config, choosing a platform; fetches no layer and writes nothing.
    async fn plan(
        &self,
        repository: &Repository,
        resolved: &Descriptor,
        wanted: &Target,
        reference: &ImageReference,
        platform: Option<&Platform>,
    ) -> Result<Remote, PullError> {
        let failed = |error| PullError::registry(error, reference);
        // by digest, so that a tag moved meanwhile does not mix two images
        let by_digest = Target::Digest(resolved.digest.clone());
        let target = match repository.manifest(&by_digest).await {
            Err(error) if matches!(wanted, Target::Tag(_)) && error.kind() == wharf_kinds::Kind::NotFound => {
                repository.manifest(wanted).await.map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        let host = Platform::host();
        let manifest = match &target.manifest {
            Manifest::Image(_) => target.clone(),
            Manifest::Index(index) => {
                let entry = index.choose(platform.unwrap_or(&host)).map_err(|e| failed(e.into()))?;
                repository.manifest_of(entry).await.map_err(failed)?
            }
        };
        let Manifest::Image(image) = &manifest.manifest else {
            return Err(PullError::Nested { reference: reference.familiar() });
        };
        let (config, layers) = (image.config.clone(), image.layers.clone());
        let config_bytes = repository.blob_all(&config, MAX_CONFIG).await.map_err(failed)?;
        let document = Document::parse(&config_bytes, layers.len())
            .map_err(|reason| StoreError::Config { config: config.digest.clone(), reason })?;
        if document.platform().os != host.os {
            return Err(PullError::OperatingSystem { found: document.os, wanted: host.os });
        }
        let chain = chain_ids(document.diff_ids());
        Ok(Remote { target, manifest, config, config_bytes, layers, document, chain })
    }

    async fn execute(
        &self,
        repository: &Repository,
        lease: &LeaseGuard,
        reference: &ImageReference,
        remote: &Remote,
        progress: &Progress,
    ) -> Result<(), PullError> {
        let source = Labels::from([(
            format!("{}{}", label_names::DISTRIBUTION_SOURCE, reference.domain()),
            reference.path().to_owned(),
        )]);
        let diff_ids: Vec<&Digest> = remote.document.diff_ids().collect();
        let plans = LayerPlan::stack(&remote.layers, &diff_ids, &remote.chain);
        let mut downloads = JoinSet::new();
        let slots = Arc::new(Semaphore::new(self.inner.max_downloads));
        let mut arrived = Vec::new();
        let mut started = std::collections::BTreeSet::new();
        for plan in &plans {
            let layer = plan.layer;
            let here = self.has_content(layer).await?;
            if here && self.has_snapshot(plan.chain).await? {
                progress.update(short(&layer.digest), "Already exists").await;
            } else if started.insert(layer.digest.clone()) {
                progress.update(short(&layer.digest), "Pulling fs layer").await;
                arrived.push(layer.digest.clone());
                let fetch = Fetch {
                    images: self.clone(),
                    repository: repository.clone(),
                    lease: lease.lease().clone(),
                    layer: layer.clone(),
                    labels: source.clone(),
                    progress: progress.clone(),
                };
                let slots = slots.clone();
                downloads.spawn(async move { fetch.run(&slots).await });
            }
        }
        let mut pending = started;
        self.put_metadata(lease, remote, &source).await?;
        for plan in &plans {
            while pending.contains(&plan.layer.digest) {
                match downloads.join_next().await {
                    Some(Ok(Ok(digest))) => pending.remove(&digest),
                    Some(Ok(Err(fetch::FetchError::Registry(error)))) => {
                        return Err(PullError::registry(error, reference));
                    }
                    Some(Ok(Err(fetch::FetchError::Backend(error)))) => return Err(error.into()),
                    Some(Err(_)) | None => return Err(PullError::Interrupted),
                };
            }
            let is_shown = arrived.contains(&plan.layer.digest);
            let id = short(&plan.layer.digest);
            if is_shown {
                let size = plan.layer.size;
                progress.say(wharf_docker::progress::Message::progress(id, "Extracting", 0, size)).await;
            }
            self.unpack_layer(lease.lease(), plan).await?;
            if is_shown {
                progress.update(id, "Pull complete").await;
            }
        }
        self.keep_snapshots(&remote.config.digest, remote.chain.last()).await?;
        Ok(())
    }

    async fn has_content(&self, descriptor: &Descriptor) -> Result<bool, PullError> {
        match self.backend().content_info(descriptor.digest.as_str()).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
