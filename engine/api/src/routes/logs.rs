//! Logs: what the shim has written, read from its files.

use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use axum::routing::get;
use engine_core::container::attach::AttachClient;
use engine_core::container::record::Record;
use engine_core::container::view::WaitFor;
use engine_logs::{Format, Framing, LogQuery, LogSource, Stamp, Start, time_argument};
use http::StatusCode;
use wharf_kinds::Kind;

use crate::error::ApiError;
use crate::query::Query;
use crate::state::AppState;
use crate::streams::streamed;
use crate::version::ApiVersion;

pub fn routes() -> Router<AppState> {
    Router::new().route("/containers/{name}/logs", get(logs))
}

fn source(state: &AppState, record: &Record) -> Result<LogSource, ApiError> {
    let format = match record.host.log_config.r#type.as_str() {
        "local" => Format::Local,
        "none" => {
            return Err(ApiError::new(
                Kind::Unimplemented,
                "configured logging driver does not support reading",
            ));
        }
        _ => Format::JsonFile,
    };
    Ok(LogSource { path: state.engine.config().log_path(&record.id), format })
}

fn time(query: &Query, name: &str) -> Result<Option<Stamp>, ApiError> {
    time_argument(query.text(name))
        .map_err(|why| ApiError::invalid(format!("invalid value for {name:?}: {why}")))
}

async fn logs(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    Path(name): Path<String>,
    query: Query,
) -> Result<Response, ApiError> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid("must specify at least one of 'stdout' or 'stderr'"));
    }
    let (since, until) = (time(&query, "since")?, time(&query, "until")?);
    let handle = state.engine.find(&name)?;
    let record = handle.view().record.clone();
    let tty = record.config.tty;
    let request = LogQuery {
        stdout,
        stderr,
        since,
        until,
        // what is no number shows everything, as in Docker
        start: query.text("tail").parse().map_or(Start::Oldest, Start::Tail),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        framing: if tty { Framing::Raw } else { Framing::Multiplexed },
        follow: query.flag("follow"),
    };
    let source = source(&state, &record)?;
    let ended = handle.waiter(WaitFor::NotRunning);
    let mut log = engine_logs::open(source, request, async move {
        ended.done().await;
    })
    .await
    .map_err(|error| ApiError::new(error.kind(), error.to_string()))?;
    let content_type = if !tty && version.at_least(1, 42) {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    };
    let (feed, response) = streamed(StatusCode::OK, content_type);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = log.next() => next,
                () = feed.closed() => return,
            };
            match next {
                Ok(Some(chunk)) => {
                    if !feed.send(chunk).await {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(container = record.id, %error, "reading the log failed");
                    return;
                }
            }
        }
    });
    Ok(response)
}

/// Writes the log so far to a client before it is attached; None if the client is gone.
pub(super) async fn replay(
    state: &AppState,
    record: &Record,
    mut client: AttachClient,
) -> Option<AttachClient> {
    use tokio::io::AsyncWriteExt as _;
    let request = LogQuery {
        stdout: client.stdout,
        stderr: client.stderr,
        framing: if record.config.tty { Framing::Raw } else { Framing::Multiplexed },
        ..LogQuery::default()
    };
    let mut stream = tokio::net::UnixStream::from_std(client.stream).ok()?;
    stream.write_all(&client.head).await.ok()?;
    client.head.clear();
    if let Ok(source) = source(state, record)
        && let Ok(mut log) = engine_logs::open(source, request, std::future::ready(())).await
    {
        while let Ok(Some(chunk)) = log.next().await {
            stream.write_all(&chunk).await.ok()?;
        }
    }
    client.stream = stream.into_std().ok()?;
    Some(client)
}
