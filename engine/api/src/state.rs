//! What every route can reach.

use std::ops::Deref;
use std::sync::Arc;

use engine_core::Engine;
use engine_core::events::EventBus;
use engine_images::Images;

/// Shared by all routes; cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

/// The parts of the state.
pub struct Parts {
    pub engine: Engine,
    pub images: Images,
    pub events: EventBus,
    pub backend: engine_backend::Backend,
    pub daemon: DaemonInfo,
}

/// What the daemon says of itself.
#[derive(Debug, Clone, Default)]
pub struct DaemonInfo {
    /// The `ID` of info.
    pub id: String,
    pub version: String,
    pub git_commit: String,
    pub build_time: String,
    pub debug: bool,
    pub labels: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: Vec<String>,
    /// Of the lifecycle daemon.
    pub lifecycle_address: String,
    pub namespace: String,
}

impl AppState {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
