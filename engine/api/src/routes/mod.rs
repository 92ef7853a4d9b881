//! One file a topic, each with a `routes()`.

mod attach;
mod auth;
mod containers;
mod distribution;
mod events;
mod exec;
mod images;
mod lifecycle;
mod logs;
mod networks;
mod system;
mod volumes;

use axum::Router;

use crate::error::ApiError;
use crate::state::AppState;

/// Everything that is served.
pub fn all(state: AppState) -> Router {
    Router::new()
        .merge(system::routes())
        .merge(events::routes())
        .merge(containers::routes())
        .merge(lifecycle::routes())
        .merge(logs::routes())
        .merge(attach::routes())
        .merge(exec::routes())
        .merge(networks::routes())
        .merge(volumes::routes())
        .merge(images::routes())
        .merge(distribution::routes())
        .merge(auth::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(state)
}

/// Docker's answer to paths it does not know, and to methods a path does not take.
async fn not_found() -> ApiError {
    ApiError::new(wharf_kinds::Kind::NotFound, "page not found")
}

/// Runs what changes something to its end, even if the client goes away meanwhile.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, engine_core::EngineError>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(ApiError::new(wharf_kinds::Kind::Internal, error.to_string())),
    }
}
