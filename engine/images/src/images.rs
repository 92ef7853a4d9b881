//! The image service: what its operations share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use engine_backend::{Backend, BackendError};
use engine_core::events::EventBus;
use engine_core::usage::ImageUsage;
use tokio::sync::Semaphore;
use wharf_registry::{Client, RegistryError};

use crate::keyed::KeyedLocks;
use crate::size::Sizes;
use crate::stored::Cache;

/// What the service is made of.
pub struct ImagesConfig {
    pub backend: Backend,
    pub registry: wharf_registry::Config,
    /// Layers fetched at the same time by one pull; Docker's default is 3.
    pub max_downloads: usize,
    /// The service's own directory: remembers what was loaded at first start.
    pub state: PathBuf,
}

/// The engine's images. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Images {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub backend: Backend,
    pub registry: Client,
    pub max_downloads: usize,
    pub state: PathBuf,
    pub events: EventBus,
    pub usage: ImageUsage,
    pub cache: Cache,
    pub sizes: Sizes,
    /// One writer a blob, one unpacking a chain, one change of a name at a time.
    pub locks: KeyedLocks,
    /// Archives being read take a thread each.
    pub archives: Semaphore,
    pub started: SystemTime,
}

/// Archives loaded or imported at the same time.
const MAX_ARCHIVES: usize = 8;

impl Images {
    /// # Errors
    /// [`RegistryError::Settings`] if the registry settings cannot be used.
    pub fn new(config: ImagesConfig, events: EventBus, usage: ImageUsage) -> Result<Self, RegistryError> {
        let inner = Inner {
            backend: config.backend,
            registry: Client::new(config.registry)?,
            max_downloads: config.max_downloads.max(1),
            state: config.state,
            events,
            usage,
            cache: Cache::default(),
            sizes: Sizes::default(),
            locks: KeyedLocks::default(),
            archives: Semaphore::new(MAX_ARCHIVES),
            started: SystemTime::now(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sweeps up after a former process: whatever it was pulling, loading or importing when it ended is given to the
    /// collector. To be called at each start.
    pub async fn recover(&self) -> Result<(), BackendError> {
        crate::lease::recover(self.backend(), self.inner.started).await
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.inner.backend
    }

    pub(crate) fn publish_event(&self, action: &str, id: &str, name: &str) {
        let attributes = [("name".to_owned(), name.to_owned())].into();
        self.inner.events.publish_image(action, id, attributes);
    }
}
