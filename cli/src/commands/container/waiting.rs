//! Waiting for a container to exit, through restarts of the daemon.

use std::future::Future;
use std::time::Duration;

use wharf_docker::container::{Inspect, WaitResponse};

use crate::session::warn;
use crate::transport::url::Query;
use crate::transport::{Client, ClientError, RequestBody, Response};

/// How long a daemon may be away after the container's streams ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to ask again.
const PAUSE: Duration = Duration::from_millis(100);
/// The exit code when the container's own cannot be known.
const UNKNOWN: i64 = 125;

/// A wait that the daemon has taken: an exit from now on cannot be missed.
pub(super) struct Waiting {
    id: String,
    removed: bool,
    answer: Response,
}

async fn ask(client: &Client, id: &str, condition: &str) -> Result<Response, ClientError> {
    let query = Query::new().set("condition", condition);
    client.post(&format!("/containers/{id}/wait"), query, RequestBody::Empty).await
}

async fn read(answer: Response) -> Result<WaitResponse, ClientError> {
    answer.json().await
}

impl Waiting {
    /// Asks for the next exit, or for the removal that follows it with `--rm`. Returns when the daemon has begun
    /// to wait, which it shows by sending the head of its answer.
    pub(super) async fn begin(client: &Client, id: &str, removed: bool) -> Result<Waiting, ClientError> {
        let answer = ask(client, id, if removed { "removed" } else { "next-exit" }).await?;
        Ok(Waiting { id: id.to_owned(), removed, answer })
    }

    /// The exit code. A wait that breaks is asked again: for ever while the container's streams last (until
    /// `streams_ended`), and for a while after.
    pub(super) async fn finish(self, client: &Client, streams_ended: impl Future<Output = ()>) -> i64 {
        let Waiting { id, removed, answer } = self;
        let mut broken = match read(answer).await {
            Ok(result) => return code_of(result),
            Err(bad) => bad,
        };
        let deadline = async {
            streams_ended.await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::pin!(deadline);
        loop {
            if !broken.is_connection() {
                warn(&format!("error waiting for container: {broken}"));
                return UNKNOWN;
            }
            let again = async {
                tokio::time::sleep(PAUSE).await;
                // it may have exited meanwhile: that exit counts too
                let condition = if removed { "removed" } else { "not-running" };
                match inspect_code(client, &id).await {
                    Ok(Some(code)) if !removed => {
                        Ok(WaitResponse { status_code: code, ..WaitResponse::default() })
                    }
                    Ok(_) => read(ask(client, &id, condition).await?).await,
                    Err(bad) => Err(bad),
                }
            };
            broken = tokio::select! {
                result = again => match result {
                    Ok(result) => return code_of(result),
                    Err(bad) => bad,
                },
                () = &mut deadline => {
                    return match inspect_code(client, &id).await {
                        Ok(Some(code)) => code,
                        _ => {
                            warn(&format!("error waiting for container: {broken}"));
                            UNKNOWN
                        }
                    };
                }
            };
        }
    }
}

/// The exit code of a container that is not running; None while it runs.
async fn inspect_code(client: &Client, id: &str) -> Result<Option<i64>, ClientError> {
    let inspect: Inspect = client.get(&format!("/containers/{id}/json"), Query::new()).await?.json().await?;
    let state = inspect.state;
    Ok((!state.running && !state.restarting && state.status != "created").then_some(state.exit_code))
}

fn code_of(result: WaitResponse) -> i64 {
    match result.error.filter(|error| !error.message.is_empty()) {
        Some(error) => {
            warn(&format!("Error waiting for container: {}", error.message));
            UNKNOWN
        }
        None => result.status_code,
    }
}
