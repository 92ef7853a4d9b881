//! `/images/…`.

mod compat;
mod error;
mod transfer;

use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use engine_images::DeleteRequest;
use http::{HeaderMap, StatusCode};
use wharf_kinds::Kind;
use wharf_vocab::Platform;

use crate::body::reply;
use crate::error::ApiError;
use crate::query::Query;
use crate::state::AppState;
use crate::version::ApiVersion;

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/create", post(transfer::create))
        .route("/images/load", post(transfer::load))
        .route("/images/get", get(transfer::save))
        .route("/images/prune", post(prune))
        .route("/images/search", get(search))
        // names have slashes: what is asked of an image stands after the last one
        .route("/images/{*rest}", get(read).post(change).delete(delete))
}

async fn list(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    query: Query,
) -> Result<Response, ApiError> {
    let images = state.images.list(&query.filters()?).await?;
    Ok(reply(StatusCode::OK, &compat::summaries(images, version)))
}

async fn read(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    Path(rest): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    match rest.rsplit_once('/') {
        Some((name, "json")) => {
            let platform = platform(&query, version.at_least(1, 49))?;
            let found = state.images.inspect(name, platform.as_ref()).await?;
            Ok(reply(StatusCode::OK, &compat::inspect(found, version)))
        }
        Some((name, "history")) => {
            let platform = platform(&query, version.at_least(1, 48))?;
            Ok(reply(StatusCode::OK, &state.images.history(name, platform.as_ref()).await?))
        }
        Some((name, "get")) => transfer::archive(&state, &[name.to_owned()], &query, version).await,
        _ => Err(ApiError::new(Kind::NotFound, "page not found")),
    }
}

async fn change(
    State(state): State<AppState>,
    Path(rest): Path<String>,
    query: Query,
    _headers: HeaderMap,
) -> Result<Response, ApiError> {
    match rest.rsplit_once('/') {
        Some((name, "tag")) => {
            state.images.tag(name, query.text("repo"), query.text("tag")).await?;
            Ok(StatusCode::CREATED.into_response())
        }
        Some((_, "push")) => Err(ApiError::new(Kind::Unimplemented, "pushing images is not implemented yet")),
        _ => Err(ApiError::new(Kind::NotFound, "page not found")),
    }
}

async fn delete(
    State(state): State<AppState>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let request = DeleteRequest { name, force: query.flag("force") };
    Ok(reply(StatusCode::OK, &state.images.delete(&request).await?))
}

async fn prune(State(state): State<AppState>, query: Query) -> Result<Response, ApiError> {
    Ok(reply(StatusCode::OK, &state.images.prune(&query.filters()?).await?))
}

async fn search() -> ApiError {
    ApiError::new(Kind::Unimplemented, "searching registries is not implemented")
}

/// The platform asked for, as JSON or as text; clients of older versions send none that counts.
fn platform(query: &Query, counts: bool) -> Result<Option<Platform>, ApiError> {
    let Some(text) = query.get("platform").filter(|_| counts) else { return Ok(None) };
    let parsed = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|e| format!("failed to parse platform: {e}"))
    } else {
        Platform::parse(text).map_err(|e| e.to_string())
    };
    parsed.map(Some).map_err(ApiError::invalid)
}
