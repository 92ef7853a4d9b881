//! Images on their way in and out: pull, import, load, save.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use bytes::Bytes;
use engine_images::{
    ImportRequest, LoadRequest, Progress, PullRequest, SaveError, SavedArchive, credentials,
};
use futures_util::stream;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wharf_docker::auth::{self, AuthConfig};
use wharf_docker::progress::Message;
use wharf_vocab::{Digest, ImageReference};

use super::platform;
use crate::error::ApiError;
use crate::query::Query;
use crate::state::AppState;
use crate::version::ApiVersion;

/// Chunks of a request's body that wait for their reader.
const WAITING: usize = 16;
/// Bytes of a body read on after its reader has given up, so that the client comes to read why.
const DRAINED: usize = 64 << 20;

/// `POST /images/create`: pulls, or imports when there is no image to pull.
pub async fn create(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let platform = platform(&query, version.at_least(1, 32))?;
    let images = state.images.clone();
    let Some(image) = query.get("fromImage") else {
        let source = query.text("fromSrc");
        if source != "-" {
            return Err(ApiError::new(
                wharf_kinds::Kind::Unimplemented,
                "importing from a URL is not implemented: download it and import from standard input",
            ));
        }
        let message = query.get("message").map_or_else(|| format!("Imported from {source}"), str::to_owned);
        let request = ImportRequest {
            archive: feed(body),
            repository: query.text("repo").to_owned(),
            tag: query.text("tag").to_owned(),
            message,
            changes: query.all("changes").map(str::to_owned).collect(),
            platform,
        };
        return watched(async move |progress| {
            let id = images.import(request).await?;
            progress.finish(Message::status("", id.to_string())).await;
            Ok(())
        })
        .await;
    };
    let reference = reference(image, query.text("tag"))?;
    let header = headers.get(auth::HEADER).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let credentials = credentials(&AuthConfig::from_header(header));
    let request = PullRequest { reference, credentials, platform };
    watched(async move |progress| Ok(images.pull(request, &progress).await?)).await
}

/// The image and tag of a pull. A trailing colon means every tag; the tag may be a digest.
fn reference(image: &str, tag: &str) -> Result<ImageReference, ApiError> {
    let invalid = |e: wharf_vocab::ReferenceError| ApiError::invalid(e.to_string());
    let reference = ImageReference::parse(image.strip_suffix(':').unwrap_or(image)).map_err(invalid)?;
    if tag.is_empty() {
        return Ok(reference);
    }
    match Digest::parse(tag) {
        Ok(digest) => Ok(reference.with_digest(digest)),
        Err(_) => reference.with_tag(tag).map_err(invalid),
    }
}

/// `POST /images/load`. Docker answers 200 to every load, and says in the stream what went wrong.
pub async fn load(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    query: Query,
    body: Body,
) -> Result<Response, ApiError> {
    let request = LoadRequest {
        archive: feed(body),
        platform: platform(&query, version.at_least(1, 48))?,
        quiet: query.flag_or("quiet", true),
    };
    let images = state.images.clone();
    watched(async move |progress| {
        if let Err(error) = images.load(request, &progress).await {
            tracing::info!(%error, "load failed");
            progress.finish(Message::failure(error.to_string())).await;
        }
        Ok(())
    })
    .await
}

/// `GET /images/get?names=…`
pub async fn save(
    State(state): State<AppState>,
    Extension(version): Extension<ApiVersion>,
    query: Query,
) -> Result<Response, ApiError> {
    let names: Vec<String> = query.all("names").filter(|n| !n.is_empty()).map(str::to_owned).collect();
    archive(&state, &names, &query, version).await
}

pub async fn archive(
    state: &AppState,
    names: &[String],
    query: &Query,
    version: ApiVersion,
) -> Result<Response, ApiError> {
    let platform = platform(query, version.at_least(1, 48))?;
    let archive = state.images.save(names, platform.as_ref()).await?;
    let chunks = stream::unfold(Some(archive), |archive| async move {
        let mut archive: SavedArchive = archive?;
        match archive.next().await {
            Ok(chunk) => chunk.map(|chunk| (Ok(chunk), Some(archive))),
            Err(error) => {
                // the head is out: only breaking the stream tells the client
                tracing::error!(%error, "save ended early");
                Some((Err::<Bytes, SaveError>(error), None))
            }
        }
    });
    Ok(respond("application/x-tar", Body::from_stream(chunks)))
}

fn respond(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

/// The body's bytes for a reader that may be a thread. Whoever stops reading is not waited for.
fn feed(body: Body) -> mpsc::Receiver<Result<Bytes, String>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut body = body;
        let mut unread = 0;
        while let Some(frame) = body.frame().await {
            let chunk = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(chunk) => Ok(chunk),
                    Err(_) => continue,
                },
                Err(error) => Err(error.to_string()),
            };
            let (length, is_end) = chunk.as_ref().map_or((0, true), |c| (c.len(), false));
            if sender.send(chunk).await.is_err() {
                unread += length;
            }
            if is_end || unread > DRAINED {
                return;
            }
        }
    });
    receiver
}

/// An operation that ends with its client.
struct Work(JoinHandle<Result<(), ApiError>>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs an operation and streams its lines. An operation that fails before its first line gets an error's status;
/// later the error is the last line. A client that goes away ends the operation.
async fn watched<F>(run: impl FnOnce(Progress) -> F) -> Result<Response, ApiError>
where
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (progress, mut lines) = Progress::channel();
    let mut work = Work(tokio::spawn(run(progress)));
    let first = lines.recv().await;
    if first.is_none() {
        ended(&mut work).await?;
    }
    let lines = stream::unfold((first, lines, Some(work)), |(first, mut lines, mut work)| async move {
        if let Some(line) = first {
            return Some((Ok::<Bytes, Infallible>(line.to_line().into()), (None, lines, work)));
        }
        if let Some(line) = lines.recv().await {
            return Some((Ok(line.to_line().into()), (None, lines, work)));
        }
        let error = ended(&mut work.take()?).await.err()?;
        tracing::info!(%error, "operation failed");
        Some((Ok(Message::failure(error.message()).to_line().into()), (None, lines, None)))
    });
    Ok(respond("application/json", Body::from_stream(lines)))
}

async fn ended(work: &mut Work) -> Result<(), ApiError> {
    match (&mut work.0).await {
        Ok(done) => done,
        Err(error) => Err(ApiError::new(wharf_kinds::Kind::Internal, error.to_string())),
    }
}
