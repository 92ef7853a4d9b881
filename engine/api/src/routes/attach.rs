//! Attach and resize of containers.

use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use engine_core::container::attach::AttachClient;
use http::{HeaderMap, StatusCode};
use wharf_stdio::Framing;

use crate::error::ApiError;
use crate::hijack::{Slot, head};
use crate::query::Query;
use crate::server::standard_headers;
use crate::state::AppState;
use crate::version::ApiVersion;

pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/containers/{name}/attach", post(attach))
        .route("/containers/{name}/resize", post(resize))
}

async fn attach(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    Extension(slot): Extension<Slot>,
    Path(name): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let keys = detach_keys(query.text("detachKeys"))?;
    let view = state.engine.check_attach(&name)?;
    let record = view.record.clone();
    let multiplexed = !record.config.tty;
    let head = head(&headers, version, multiplexed, &standard_headers());
    let (stdin, stdout, stderr) = (query.flag("stdin"), query.flag("stdout"), query.flag("stderr"));
    let (logs, stream) = (query.flag("logs"), query.flag("stream"));
    let error = slot
        .take(move |taken| async move {
            let mut client = AttachClient {
                stream: taken.stream,
                buffered: taken.buffered,
                head,
                stdin: stdin && record.config.open_stdin,
                stdout,
                stderr,
                framing: if multiplexed { Framing::Multiplexed } else { Framing::Raw },
                detach_keys: keys,
            };
            if logs {
                client = match super::logs::replay(&state, &record, client).await {
                    Some(client) => client,
                    None => return,
                };
            }
            if stream && let Err(error) = state.engine.attach(&record.id, client).await {
                tracing::debug!(container = record.id, %error, "a client was not attached");
            }
        })
        .await;
    Err(error)
}

async fn resize(
    State(state): State<AppState>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let (height, width) = size(&query)?;
    state.engine.resize(&name, height, width).await?;
    Ok(StatusCode::OK.into_response())
}

/// `h` and `w`, in Docker's words if they are no numbers.
pub(super) fn size(query: &Query) -> Result<(u32, u32), ApiError> {
    let number = |name: &str, what: &str| {
        let text = query.text(name);
        text.parse::<u32>()
            .map_err(|_| ApiError::invalid(format!("invalid resize {what} {text:?}: not a number")))
    };
    Ok((number("h", "height")?, number("w", "width")?))
}

/// `ctrl-p,ctrl-q` and single characters; the default if nothing is given.
pub(super) fn detach_keys(text: &str) -> Result<Vec<u8>, ApiError> {
    if text.is_empty() {
        return Ok(vec![0x10, 0x11]);
    }
    text.split(',')
        .map(|key| {
            let unknown = || ApiError::invalid(format!("Invalid detach keys ({text}) provided"));
            match key.strip_prefix("ctrl-") {
                Some(control) => match control.as_bytes() {
                    [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
                    [letter @ b'A'..=b'Z'] => Ok(letter - b'A' + 1),
                    b"@" => Ok(0),
                    b"[" => Ok(27),
                    b"\\" => Ok(28),
                    b"]" => Ok(29),
                    b"^" => Ok(30),
                    b"_" => Ok(31),
                    _ => Err(unknown()),
                },
                None => match key.as_bytes() {
                    [byte] => Ok(*byte),
                    _ if key == "DEL" => Ok(127),
                    _ => Err(unknown()),
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::detach_keys;

    #[test]
    fn keys_are_bytes() {
        assert_eq!(detach_keys("").unwrap(), [16, 17]);
        assert_eq!(detach_keys("ctrl-a,x").unwrap(), [1, b'x']);
        assert_eq!(detach_keys("ctrl-],ctrl-@").unwrap(), [29, 0]);
        assert!(detach_keys("ctrl-5").is_err());
        assert!(detach_keys("ab").is_err());
    }
}
