//! Loading images from an archive: `docker save`'s, with `manifest.json`, or an OCI layout, with `index.json`.
//!
//! The archive is read once, front to back: what could be a blob goes straight into the content store under a lease,
//! small JSON files are kept in memory. When the end has been reached the index or the manifest file tells what is an
//! image; those are unpacked, and then all of them get their names. An archive that ends early leaves nothing.

mod archive;
mod contents;
mod docker;
mod error;
mod inflate;
mod layout;

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_registry::Descriptor;
use wharf_vocab::{ImageReference, Platform};

pub(crate) use docker::layer_type;
pub use error::LoadError;

use crate::images::Images;
use crate::lease::LeaseGuard;
use crate::progress::Progress;
use crate::stored;
use contents::Contents;

/// What to load.
pub struct LoadRequest {
    /// The archive's bytes in order; an error text means that the client went away.
    pub archive: mpsc::Receiver<Result<Bytes, String>>,
    /// Which image of an index; this machine's if none is given.
    pub platform: Option<Platform>,
    /// No progress lines, only what was loaded.
    pub quiet: bool,
}

/// An image of an archive, with everything it refers to in the content store.
struct Loaded {
    target: Descriptor,
    names: Vec<ImageReference>,
}

impl Images {
    /// Loads every image of an archive. Names are given last, and all of them or none.
    pub async fn load(&self, request: LoadRequest, progress: &Progress) -> Result<(), LoadError> {
        let _slot = self.inner.archives.acquire().await;
        let lease = LeaseGuard::take(self.backend(), "load").await?;
        match self.load_under(&lease, request, progress).await {
            Ok(()) => {
                lease.release().await;
                Ok(())
            }
            Err(error) => {
                lease.discard().await;
                Err(error)
            }
        }
    }

    async fn load_under(
        &self,
        lease: &LeaseGuard,
        request: LoadRequest,
        progress: &Progress,
    ) -> Result<(), LoadError> {
        let contents = self.take_in(lease, request.archive).await?;
        let found = if contents.has_layout() {
            self.take_layout(lease, &contents).await?
        } else {
            self.take_docker(lease, &contents).await?
        };
        if found.is_empty() {
            return Err(LoadError::NoImage);
        }
        let mut ready = Vec::new();
        for loaded in found {
            let platform = request.platform.as_ref();
            let image = stored::read(self.backend(), &self.inner.cache, &loaded.target, platform).await?;
            for layer in &image.layers {
                let id = &layer.digest.hex()[..12];
                if !request.quiet {
                    let line = wharf_docker::progress::Message::progress(
                        id,
                        "Loading layer",
                        layer.size,
                        layer.size,
                    );
                    progress.say(line).await;
                }
            }
            self.unpack(lease.lease(), &image).await?;
            ready.push((loaded, image));
        }
        for (loaded, image) in ready {
            if loaded.names.is_empty() {
                self.publish_nameless(&loaded.target).await?;
                self.say_loaded(progress, &format!("Loaded image ID: {}", image.id())).await;
                self.publish_event("load", image.id().as_str(), image.id().as_str());
            }
            for name in &loaded.names {
                self.publish(name, &loaded.target).await?;
                self.say_loaded(progress, &format!("Loaded image: {}", name.familiar())).await;
                self.publish_event("load", image.id().as_str(), &name.familiar());
            }
        }
        Ok(())
    }

    async fn say_loaded(&self, progress: &Progress, text: &str) {
        progress.say(wharf_docker::progress::Message::output(format!("{text}\n"))).await;
    }

    /// Reads the archive to its end: blobs into the content store, small files into memory.
    async fn take_in(
        &self,
        lease: &LeaseGuard,
        archive: mpsc::Receiver<Result<Bytes, String>>,
    ) -> Result<Contents, LoadError> {
        let sink = archive::Sink::new(self.backend().clone(), lease.lease().clone());
        let task = tokio::task::spawn_blocking(move || archive::read(archive, sink));
        task.await.map_err(|_| LoadError::Interrupted)?
    }
}
