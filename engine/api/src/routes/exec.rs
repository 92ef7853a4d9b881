//! Execs: create, start, inspect, resize.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use engine_core::container::attach::AttachClient;
use http::{HeaderMap, StatusCode};
use wharf_docker::container::{ExecCreate, ExecStart, IdResponse};
use wharf_stdio::Framing;

use super::attach::{detach_keys, size};
use super::to_the_end;
use crate::body::{self, reply};
use crate::error::ApiError;
use crate::hijack::{Slot, head};
use crate::query::Query;
use crate::server::standard_headers;
use crate::state::AppState;
use crate::version::ApiVersion;

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/containers/{name}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    request: Body,
) -> Result<Response, ApiError> {
    let mut request: ExecCreate = body::json(request).await?;
    if request.cmd.as_ref().is_none_or(|words| words.0.is_empty()) {
        return Err(ApiError::invalid("No exec command specified"));
    }
    if !version.at_least(1, 42) {
        request.console_size = None;
    }
    let keys = detach_keys(&request.detach_keys)?;
    let engine = state.engine.clone();
    let id = to_the_end(async move { engine.exec_create(&name, request, keys).await }).await?;
    Ok(reply(StatusCode::CREATED, &IdResponse { id }))
}

async fn start(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    Extension(slot): Extension<Slot>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, ApiError> {
    let options: ExecStart = body::json_or_default(request).await?;
    let exec = state.engine.check_exec(&id)?.record();
    let console_size = options.console_size.filter(|_| options.tty && version.at_least(1, 42));
    if options.detach {
        state.engine.exec_start(&id, None, console_size).await?;
        return Ok(StatusCode::OK.into_response());
    }
    let multiplexed = !exec.request.tty;
    let head = head(&headers, version, multiplexed, &standard_headers());
    let error = slot
        .take(move |taken| async move {
            let client = AttachClient {
                stream: taken.stream,
                buffered: taken.buffered,
                head,
                stdin: exec.request.attach_stdin,
                stdout: exec.request.attach_stdout,
                stderr: exec.request.attach_stderr,
                framing: if multiplexed { Framing::Multiplexed } else { Framing::Raw },
                detach_keys: exec.detach_keys,
            };
            if let Err(error) = state.engine.exec_start(&id, Some(client), console_size).await {
                tracing::debug!(exec = id, %error, "exec did not start");
            }
        })
        .await;
    Err(error)
}

async fn resize(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let (height, width) = size(&query)?;
    state.engine.exec_resize(&id, height, width).await?;
    Ok(StatusCode::OK.into_response())
}

async fn inspect(State(state): State<AppState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    Ok(reply(StatusCode::OK, &state.engine.exec_inspect(&id).await?))
}
