//! Containers: create, list, inspect, top, wait, prune.

use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use engine_core::CreateRequest;
use engine_core::container::view::WaitFor;
use engine_core::list::{ListRequest, PruneFilter};
use http::StatusCode;
use wharf_docker::container::{
    Config, CreateParts, CreateResponse, HostConfig, PruneReport, WaitError, WaitResponse,
};
use wharf_docker::time::Time;

use super::to_the_end;
use crate::body::{self, reply};
use crate::error::ApiError;
use crate::query::Query;
use crate::state::AppState;
use crate::streams::streamed;
use crate::times;
use crate::version::ApiVersion;

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/containers/create", post(create))
        .route("/containers/json", get(list))
        .route("/containers/prune", post(prune))
        .route("/containers/{name}/json", get(inspect))
        .route("/containers/{name}/top", get(top))
        .route("/containers/{name}/wait", post(wait))
}

async fn create(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    query: Query,
    request: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read(request).await?;
    let config: Config = wharf_docker::decode::from_slice(&bytes)?;
    let parts: CreateParts = wharf_docker::decode::from_slice(&bytes)?;
    let mut host = parts.host_config.unwrap_or_default();
    upgrade(&mut host, version)?;
    let request = CreateRequest {
        name: query.text("name").to_owned(),
        config,
        host,
        networking: parts.networking_config.unwrap_or_default(),
        platform: query.get("platform").filter(|_| version.at_least(1, 41)).map(str::to_owned),
    };
    let engine = state.engine.clone();
    let created = to_the_end(async move { engine.create(request).await }).await?;
    Ok(reply(StatusCode::CREATED, &CreateResponse { id: created.id, warnings: created.warnings }))
}

/// Makes an older client's request mean what it meant then.
fn upgrade(host: &mut HostConfig, version: ApiVersion) -> Result<(), ApiError> {
    if !version.at_least(1, 40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    if !version.at_least(1, 42) {
        host.console_size = (0, 0);
    }
    if !version.at_least(1, 43) {
        host.annotations = None;
    }
    for mount in host.mounts.iter_mut().flatten() {
        if !version.at_least(1, 42) {
            if mount.r#type != "volume" {
                mount.volume_options = None;
            }
            if mount.r#type != "tmpfs" {
                mount.tmpfs_options = None;
            }
        }
        for (present, kind, name) in [
            (mount.volume_options.is_some(), "volume", "VolumeOptions"),
            (mount.bind_options.is_some(), "bind", "BindOptions"),
            (mount.tmpfs_options.is_some(), "tmpfs", "TmpfsOptions"),
        ] {
            if present && mount.r#type != kind && version.at_least(1, 42) {
                let text = format!("{name} must not be specified on mount type {:?}", mount.r#type);
                return Err(ApiError::invalid(text));
            }
        }
        if let Some(options) = &mut mount.bind_options {
            if !version.at_least(1, 40) {
                options.non_recursive = false;
            }
            if !version.at_least(1, 42) {
                options.create_mountpoint = false;
            }
        }
        // before 1.44 read-only mounts were never recursive
        if !version.at_least(1, 44) && mount.r#type == "bind" {
            mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
        }
    }
    Ok(())
}

async fn list(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    query: Query,
) -> Result<Response, ApiError> {
    let limit: i64 = query.number("limit")?.unwrap_or(0);
    let request = ListRequest {
        all: query.flag("all"),
        size: query.flag("size"),
        limit: usize::try_from(limit).unwrap_or(0),
        filters: query.filters()?,
    };
    let mut summaries = state.engine.list(request).await?;
    if !version.at_least(1, 46) {
        for summary in &mut summaries {
            summary.host_config.annotations = None;
        }
    }
    Ok(reply(StatusCode::OK, &summaries))
}

async fn inspect(
    State(state): State<AppState>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let inspect = state.engine.inspect(&name, query.flag("size")).await?;
    Ok(reply(StatusCode::OK, &inspect))
}

async fn top(
    State(state): State<AppState>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let table = state.engine.top(&name, query.text("ps_args")).await?;
    Ok(reply(StatusCode::OK, &table))
}

async fn wait(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let until = match query.text("condition") {
        _ if !version.at_least(1, 30) => WaitFor::NotRunning,
        "" | "not-running" => WaitFor::NotRunning,
        "next-exit" => WaitFor::NextExit,
        "removed" => WaitFor::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
    };
    let waiter = state.engine.wait(&name, until)?;
    let (feed, response) = streamed(StatusCode::OK, "application/json");
    tokio::spawn(async move {
        tokio::select! {
            waited = waiter.done() => {
                let error = waited.error.map(|message| WaitError { message });
                let body = WaitResponse { error, status_code: waited.code };
                let mut bytes = serde_json::to_vec(&body).unwrap_or_default();
                bytes.push(b'\n');
                feed.send(bytes).await;
            }
            () = feed.closed() => {}
        }
    });
    Ok(response)
}

async fn prune(State(state): State<AppState>, query: Query) -> Result<Response, ApiError> {
    let filters = query.filters()?;
    let until = match filters.values("until").last() {
        Some(text) => {
            let nanos = times::parse("until", text)?.unwrap_or(0);
            let at =
                SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
            Some(Time::from(at))
        }
        None => None,
    };
    let filter = PruneFilter::new(filters, until)?;
    let engine = state.engine.clone();
    let removed = to_the_end(async move { Ok(engine.prune(|record| filter.takes(record)).await) }).await?;
    let report =
        PruneReport { containers_deleted: (!removed.is_empty()).then_some(removed), space_reclaimed: 0 };
    Ok(reply(StatusCode::OK, &report))
}
