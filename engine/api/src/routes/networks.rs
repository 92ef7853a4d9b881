//! The networks that are always there: bridge, host and none. Others come with networking.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use engine_core::inspect::NETWORKS;
use http::StatusCode;
use serde_json::{Value, json};
use wharf_docker::time::Time;
use wharf_kinds::Kind;

use crate::body::reply;
use crate::error::ApiError;
use crate::query::Query;
use crate::state::AppState;

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", post(unsupported))
        .route("/networks/{id}", get(inspect).delete(unsupported))
        .route("/networks/{id}/connect", post(unsupported))
        .route("/networks/{id}/disconnect", post(unsupported))
        .route("/networks/prune", post(unsupported))
}

async fn unsupported() -> ApiError {
    ApiError::new(Kind::Unimplemented, "networks other than bridge, host and none are not supported yet")
}

fn network(name: &str, id: &str, containers: Value) -> Value {
    let driver = if name == "none" { "null" } else { name };
    json!({
        "Name": name, "Id": id, "Created": Time::ZERO, "Scope": "local", "Driver": driver,
        "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": null },
        "Internal": false, "Attachable": false, "Ingress": false,
        "ConfigFrom": { "Network": "" }, "ConfigOnly": false,
        "Containers": containers, "Options": {}, "Labels": {}
    })
}

async fn list(query: Query) -> Result<Response, ApiError> {
    let filters = query.filters()?;
    filters.expect(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let all: Vec<Value> = NETWORKS
        .iter()
        .filter(|(name, id)| {
            let driver = if *name == "none" { "null" } else { name };
            filters.part("name", name)
                && filters.prefix("id", id)
                && filters.exact("driver", driver)
                && filters.exact("scope", "local")
                && filters.exact("type", "builtin")
                && !filters.contains("label")
        })
        .map(|(name, id)| network(name, id, json!({})))
        .collect();
    Ok(reply(StatusCode::OK, &all))
}

async fn inspect(State(state): State<AppState>, Path(wanted): Path<String>) -> Result<Response, ApiError> {
    let found =
        NETWORKS.iter().find(|(name, id)| *name == wanted || (wanted.len() >= 3 && id.starts_with(&wanted)));
    let Some((name, id)) = found else {
        return Err(ApiError::new(Kind::NotFound, format!("network {wanted} not found")));
    };
    let containers: serde_json::Map<String, Value> = state
        .engine
        .views()
        .iter()
        .filter(|view| view.record.host.network_mode == *name && view.record.phase.run().is_some())
        .map(|view| {
            let endpoint = json!({
                "Name": view.record.name, "EndpointID": "", "MacAddress": "", "IPv4Address": "", "IPv6Address": ""
            });
            (view.record.id.clone(), endpoint)
        })
        .collect();
    Ok(reply(StatusCode::OK, &network(name, id, Value::Object(containers))))
}
