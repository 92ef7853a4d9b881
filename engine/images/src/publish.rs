//! Giving names to images, so that an image that loses its last name stays as a dangling one.

use engine_backend::{BackendError, Image, Labels};
use wharf_registry::Descriptor;
use wharf_vocab::ImageReference;

use crate::images::Images;
use crate::name::dangling;
use crate::stored;

impl Images {
    /// Points a name (with a tag or a digest) at a target. Returns whether that changed anything.
    pub(crate) async fn publish(
        &self,
        name: &ImageReference,
        target: &Descriptor,
    ) -> Result<bool, BackendError> {
        let text = name.to_string();
        let _held = self.inner.locks.hold(&format!("name {text}")).await;
        let backend = self.backend();
        let old = match backend.image_get(&text).await {
            Ok(old) if old.target.digest == target.digest.as_str() => {
                self.inner.cache.forget(&target.digest);
                return Ok(false);
            }
            Ok(old) => Some(old),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        if let Some(old) = old {
            self.keep_dangling(name, &old).await?;
        }
        backend.image_put(&Image::new(text, stored::to_backend(target), Labels::new())).await?;
        // named now
        let nameless = dangling(&target.digest);
        match backend.image_delete(&nameless, false).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        self.inner.cache.forget(&target.digest);
        Ok(true)
    }

    /// Keeps a target without a name.
    pub(crate) async fn publish_nameless(&self, target: &Descriptor) -> Result<(), BackendError> {
        let backend = self.backend();
        let others = backend.image_list(&[format!("target.digest=={}", target.digest)]).await?;
        if others.is_empty() {
            self.keep_nameless(target).await?;
        }
        self.inner.cache.forget(&target.digest);
        Ok(())
    }

    /// Keeps a target when its last name is about to go.
    pub(crate) async fn keep_nameless(&self, target: &Descriptor) -> Result<(), BackendError> {
        let record = Image::new(dangling(&target.digest), stored::to_backend(target), Labels::new());
        self.backend().image_put(&record).await?;
        Ok(())
    }

    /// Before `name` moves away from `old`: a record for the old target if that was its last one.
    async fn keep_dangling(&self, name: &ImageReference, old: &Image) -> Result<(), BackendError> {
        let backend = self.backend();
        let records = backend.image_list(&[format!("target.digest=={}", old.target.digest)]).await?;
        if records.iter().any(|r| r.name != old.name) {
            return Ok(());
        }
        let Some(target) = stored::from_backend(&old.target) else { return Ok(()) };
        let pulled_from_here = match stored::read(backend, &self.inner.cache, &target, None).await {
            Ok(image) => image.sources.contains(&name.name()),
            // what cannot be read is not worth keeping
            Err(error) => {
                tracing::debug!(name = old.name, %error, "replaced image is let go");
                return Ok(());
            }
        };
        let kept = if pulled_from_here {
            name.with_digest(target.digest.clone()).to_string()
        } else {
            dangling(&target.digest)
        };
        backend.image_put(&Image::new(kept, old.target.clone(), Labels::new())).await?;
        Ok(())
    }
}
