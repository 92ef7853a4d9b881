//! Images as the engine's core wants them at create.

use engine_core::image::{BoxFuture, ImageConfig, ImageError, ImageSource, ResolvedImage};
use wharf_docker::image::Config;
use wharf_kinds::Kind;
use wharf_vocab::{ImageReference, Platform};

use crate::error::StoreError;
use crate::images::Images;
use crate::lease::LeaseGuard;
use crate::lookup::{LookupError, whole_id};
use crate::stored;

impl ImageSource for Images {
    fn resolve<'a>(
        &'a self,
        reference: &'a str,
        platform: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ResolvedImage, ImageError>> {
        Box::pin(self.resolve_for_container(reference, platform))
    }
}

impl Images {
    async fn resolve_for_container(
        &self,
        reference: &str,
        platform: Option<&str>,
    ) -> Result<ResolvedImage, ImageError> {
        let platform = platform
            .filter(|p| !p.is_empty())
            .map(Platform::parse)
            .transpose()
            .map_err(|e| ImageError::Invalid(e.to_string()))?;
        let (image, name) =
            self.image(reference, platform.as_ref()).await.map_err(|e| to_core(e, reference))?;
        if let Some(top) = image.top()
            && !self.has_snapshot(top).await.map_err(|e| store_to_core(e, reference))?
        {
            let lease = LeaseGuard::take(self.backend(), "unpack").await?;
            self.unpack(lease.lease(), &image).await.map_err(|e| store_to_core(e, reference))?;
            lease.release().await;
        }
        let config = image_config(&image.document.config);
        Ok(ResolvedImage {
            id: image.id().to_string(),
            name,
            manifest: stored::to_backend(&image.manifest),
            chain_id: image.top().map(ToString::to_string).unwrap_or_default(),
            config,
            os: image.document.platform().os,
            architecture: image.document.platform().architecture,
        })
    }
}

fn image_config(config: &Config) -> ImageConfig {
    let list = |items: &[String]| (!items.is_empty()).then(|| items.to_vec());
    ImageConfig {
        user: config.user.clone(),
        env: config.env.clone(),
        entrypoint: list(&config.entrypoint),
        cmd: list(&config.cmd),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        exposed_ports: config.exposed_ports.keys().cloned().collect(),
        volumes: config.volumes.keys().cloned().collect(),
        stop_signal: config.stop_signal.clone(),
        shell: list(&config.shell),
        on_build: config.on_build.clone(),
    }
}

fn to_core(error: LookupError, reference: &str) -> ImageError {
    match error {
        LookupError::NotFound(_) if whole_id(reference).is_none() => {
            let shown = ImageReference::parse(reference).map(|r| r.with_default_tag().familiar());
            ImageError::NotFound(shown.unwrap_or_else(|_| reference.to_owned()))
        }
        LookupError::NotFound(shown) => ImageError::NotFound(shown),
        LookupError::Backend(error) => ImageError::Backend(error),
        LookupError::Store(error) => store_to_core(error, reference),
        other => ImageError::Invalid(other.to_string()),
    }
}

fn store_to_core(error: StoreError, reference: &str) -> ImageError {
    match error {
        StoreError::NoPlatform { platform, .. } => ImageError::WrongPlatform(format!(
            "image with reference {reference} was found but does not provide the specified platform ({platform})"
        )),
        StoreError::Backend(error) => ImageError::Backend(error),
        StoreError::Unpack { source, .. } if source.kind() == Kind::Unavailable => {
            ImageError::Backend(source)
        }
        other => ImageError::Invalid(other.to_string()),
    }
}
