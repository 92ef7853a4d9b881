//! `GET /distribution/{name}/json`: what a registry has under a name.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use engine_images::credentials;
use http::{HeaderMap, StatusCode};
use wharf_docker::auth::{self, AuthConfig};
use wharf_kinds::Kind;
use wharf_vocab::ImageReference;

use crate::body::reply;
use crate::error::ApiError;
use crate::state::AppState;

pub fn routes() -> Router<AppState> {
    Router::new().route("/distribution/{*rest}", get(inspect))
}

async fn inspect(
    State(state): State<AppState>,
    Path(rest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some((name, "json")) = rest.rsplit_once('/') else {
        return Err(ApiError::new(Kind::NotFound, "page not found"));
    };
    let reference = ImageReference::parse(name).map_err(|e| ApiError::invalid(e.to_string()))?;
    let header = headers.get(auth::HEADER).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let credentials = credentials(&AuthConfig::from_header(header));
    let found = state
        .images
        .remote(&reference, credentials)
        .await
        .map_err(|e| ApiError::new(e.kind(), e.to_string()))?;
    Ok(reply(StatusCode::OK, &found))
}
