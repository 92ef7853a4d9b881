//! Local volumes: list and inspect. Making and removing them by name comes with volumes.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use engine_core::volume::{VolumeRecord, Volumes};
use http::StatusCode;
use serde_json::{Value, json};
use wharf_kinds::Kind;

use crate::body::reply;
use crate::error::ApiError;
use crate::query::Query;
use crate::state::AppState;

pub fn routes() -> Router<AppState> {
    Router::new().route("/volumes", get(list)).route("/volumes/{name}", get(inspect))
}

fn shown(state: &AppState, volume: &VolumeRecord) -> Value {
    let path = Volumes::path(state.engine.config(), &volume.name);
    json!({
        "CreatedAt": volume.created, "Driver": "local", "Labels": volume.labels,
        "Mountpoint": path.to_string_lossy(), "Name": volume.name, "Options": volume.options, "Scope": "local"
    })
}

async fn list(State(state): State<AppState>, query: Query) -> Result<Response, ApiError> {
    let filters = query.filters()?;
    filters.expect(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.boolean("dangling")?;
    let used: std::collections::BTreeSet<String> = state
        .engine
        .views()
        .iter()
        .flat_map(|view| view.record.mounts.iter().map(|mount| mount.name.clone()).collect::<Vec<_>>())
        .collect();
    let all: Vec<Value> = state
        .engine
        .volumes()
        .all()
        .iter()
        .filter(|volume| filters.part("name", &volume.name))
        .filter(|volume| filters.labels("label", &volume.labels) && filters.exact("driver", "local"))
        .filter(|volume| dangling.is_none_or(|dangling| dangling != used.contains(&volume.name)))
        .map(|volume| shown(&state, volume))
        .collect();
    Ok(reply(StatusCode::OK, &json!({ "Volumes": all, "Warnings": null })))
}

async fn inspect(State(state): State<AppState>, Path(name): Path<String>) -> Result<Response, ApiError> {
    match state.engine.volumes().get(&name) {
        Some(volume) => Ok(reply(StatusCode::OK, &shown(&state, &volume))),
        None => Err(ApiError::new(Kind::NotFound, format!("get {name}: no such volume"))),
    }
}
