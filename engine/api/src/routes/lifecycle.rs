//! Containers: start, stop, kill, restart, pause, unpause, rename, update, remove.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use axum::routing::{delete, post};
use http::{HeaderMap, StatusCode, header};
use wharf_docker::container::{UpdateBody, UpdateResponse};

use super::to_the_end;
use crate::body::{self, done, reply};
use crate::error::ApiError;
use crate::query::Query;
use crate::state::AppState;
use crate::version::ApiVersion;

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/containers/{name}/start", post(start))
        .route("/containers/{name}/stop", post(stop))
        .route("/containers/{name}/kill", post(kill))
        .route("/containers/{name}/restart", post(restart))
        .route("/containers/{name}/pause", post(pause))
        .route("/containers/{name}/unpause", post(unpause))
        .route("/containers/{name}/rename", post(rename))
        .route("/containers/{name}/update", post(update))
        .route("/containers/{name}", delete(remove))
}

async fn start(
    State(state): State<AppState>,
    Path(name): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // an empty object is at most so long
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.unwrap_or(0) > 7 {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if query.get("checkpoint").is_some() {
        return Err(ApiError::invalid("checkpoint is only supported in experimental mode"));
    }
    let engine = state.engine.clone();
    to_the_end(async move { engine.start(&name).await }).await?;
    Ok(done())
}

fn stop_options(query: &Query, version: ApiVersion) -> Result<(String, Option<i64>), ApiError> {
    let signal = if version.at_least(1, 42) { query.text("signal").to_owned() } else { String::new() };
    Ok((signal, query.number("t")?))
}

async fn stop(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let (signal, seconds) = stop_options(&query, version)?;
    let engine = state.engine.clone();
    to_the_end(async move { engine.stop(&name, &signal, seconds).await }).await?;
    Ok(done())
}

async fn restart(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let (signal, seconds) = stop_options(&query, version)?;
    let engine = state.engine.clone();
    to_the_end(async move { engine.restart(&name, &signal, seconds).await }).await?;
    Ok(done())
}

async fn kill(
    State(state): State<AppState>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let (engine, signal, wanted) = (state.engine.clone(), query.text("signal").to_owned(), name.clone());
    to_the_end(async move { engine.kill(&wanted, &signal).await })
        .await
        .map_err(|error| error.within(&format!("cannot kill container: {name}")))?;
    Ok(done())
}

async fn pause(State(state): State<AppState>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let engine = state.engine.clone();
    to_the_end(async move { engine.pause(&name).await }).await?;
    Ok(done())
}

async fn unpause(State(state): State<AppState>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let engine = state.engine.clone();
    to_the_end(async move { engine.unpause(&name).await }).await?;
    Ok(done())
}

async fn rename(
    State(state): State<AppState>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let (engine, new) = (state.engine.clone(), query.text("name").to_owned());
    to_the_end(async move { engine.rename(&name, &new).await }).await?;
    Ok(done())
}

async fn update(
    State(state): State<AppState>,
    Path(name): Path<String>,
    request: Body,
) -> Result<Response, ApiError> {
    let change: UpdateBody = body::json(request).await?;
    let engine = state.engine.clone();
    let warnings = to_the_end(async move { engine.update(&name, change).await }).await?;
    Ok(reply(StatusCode::OK, &UpdateResponse { warnings }))
}

async fn remove(
    State(state): State<AppState>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    if query.flag("link") {
        return Err(ApiError::new(wharf_kinds::Kind::Unimplemented, "links are not supported"));
    }
    let (engine, force, volumes) = (state.engine.clone(), query.flag("force"), query.flag("v"));
    to_the_end(async move { engine.remove(&name, force, volumes).await }).await?;
    Ok(done())
}
