//! Pushing: mounts from other repositories, uploads that go on where a connection broke, manifests.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio_stream::Stream;
use wharf_vocab::Digest;

use crate::answer::{self, malformed};
use crate::error::RegistryError;
use crate::manifest::Descriptor;
use crate::repository::{Act, Repository, Target, digest_header, manifest_request};
use crate::scope::Scopes;
use crate::session::Session;
use crate::transport::{Content, Outgoing};

/// Blobs up to this many bytes go along with the request that ends their upload.
const AT_ONCE: u64 = 1 << 20;
/// What one request carries at most after a registry, or a proxy before it, called more too large; and at least.
const PART: u64 = 64 << 20;
const LEAST: u64 = 1 << 20;
const TOO_LARGE: u16 = 413;

/// A blob's bytes from an offset on; called again when an upload is taken up.
pub type Source =
    Arc<dyn Fn(u64) -> Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send + Sync>> + Send + Sync>;

/// How a blob came to the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// It was there.
    Existed,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// It was sent.
    Sent,
}

impl Repository {
    /// Whether the repository has the blob.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        self.has(&format!("/{}/blobs/{digest}", self.path())).await
    }

    /// Whether the repository has this very manifest, under the target.
    pub async fn has_manifest(&self, target: &Target, digest: &Digest) -> Result<bool, RegistryError> {
        let path = self.manifest_path(target)?;
        let path = path.as_str();
        self.over_endpoints(Act::Push, |session: Arc<Session>| {
            Box::pin(async move {
                let response = session.send(manifest_request(Method::HEAD, session.url(path)?)).await?;
                match response.status() {
                    status if status.is_success() => {
                        Ok(digest_header(response.headers()).is_some_and(|found| found == *digest))
                    }
                    StatusCode::NOT_FOUND => Ok(false),
                    _ => Err(answer::refusal(&Method::HEAD, response).await),
                }
            })
        })
        .await
    }

    /// Brings a blob: from one of `mounts`, repositories of the same registry that are said to have it, or by
    /// sending it.
    pub async fn upload(
        &self,
        descriptor: &Descriptor,
        mounts: &[String],
        source: &Source,
    ) -> Result<Uploaded, RegistryError> {
        if self.has_blob(&descriptor.digest).await? {
            return Ok(Uploaded::Existed);
        }
        let started = match nearest(self.path(), mounts) {
            Some(from) => match self.begin(&descriptor.digest, Some(from)).await {
                Err(error) if is_mount_refused(&error) => {
                    tracing::debug!(digest = %descriptor.digest, from, %error, "not mounted, sending it");
                    self.begin(&descriptor.digest, None).await?
                }
                other => other?,
            },
            None => self.begin(&descriptor.digest, None).await?,
        };
        let Some(place) = started else { return Ok(Uploaded::Mounted) };
        self.send_blob(descriptor, place, source).await?;
        Ok(Uploaded::Sent)
    }

    /// Stores a manifest under a tag or its digest.
    pub async fn put_manifest(
        &self,
        target: &Target,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let path = self.manifest_path(target)?;
        let path = path.as_str();
        let kind = HeaderValue::from_str(media_type)
            .map_err(|_| RegistryError::Settings(format!("{media_type:?} is no media type")))?;
        let bytes = Bytes::copy_from_slice(bytes);
        let (kind, bytes) = (&kind, &bytes);
        self.over_endpoints(Act::Push, |session: Arc<Session>| {
            Box::pin(async move {
                let mut request = Outgoing::new(Method::PUT, session.url(path)?);
                request.headers.insert(CONTENT_TYPE, kind.clone());
                let content = bytes.clone();
                request.content = Some(Arc::new(move || content.clone().into()));
                accepted(&Method::PUT, session.send(request).await?).await.map(drop)
            })
        })
        .await
    }

    async fn has(&self, path: &str) -> Result<bool, RegistryError> {
        self.over_endpoints(Act::Push, |session: Arc<Session>| {
            Box::pin(async move {
                let response = session.send(Outgoing::new(Method::HEAD, session.url(path)?)).await?;
                match response.status() {
                    status if status.is_success() => Ok(true),
                    StatusCode::NOT_FOUND => Ok(false),
                    _ => Err(answer::refusal(&Method::HEAD, response).await),
                }
            })
        })
        .await
    }

    /// Opens an upload, or has the blob mounted: then there is no place to send it to.
    async fn begin(&self, digest: &Digest, from: Option<&str>) -> Result<Option<Url>, RegistryError> {
        let path = format!("/{}/blobs/uploads/", self.path());
        let path = path.as_str();
        self.over_endpoints(Act::Push, |session: Arc<Session>| {
            Box::pin(async move {
                let mut url = session.url(path)?;
                if let Some(from) = from {
                    url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
                }
                let mut request = Outgoing::new(Method::POST, url.clone());
                request.scopes = from.map_or_else(Scopes::default, |from| {
                    Scopes::default().with(&format!("repository:{from}:pull"))
                });
                request.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                let response = accepted(&Method::POST, session.send(request).await?).await?;
                if response.status() == StatusCode::CREATED {
                    return Ok(None);
                }
                place(&url, response.headers()).map(Some)
            })
        })
        .await
    }

    /// Sends the bytes: small ones with the request that ends the upload, others before it, taken up where the
    /// registry says it stands after a broken connection.
    async fn send_blob(
        &self,
        descriptor: &Descriptor,
        place: Url,
        source: &Source,
    ) -> Result<(), RegistryError> {
        if descriptor.size <= AT_ONCE {
            return self.send_whole(descriptor, place, source).await;
        }
        match self.send_parts(descriptor, place, source).await {
            Err(error) if is_without_parts(&error) => {
                tracing::debug!(digest = %descriptor.digest, %error, "no upload in parts, sending it whole");
                match self.begin(&descriptor.digest, None).await? {
                    Some(place) => self.send_whole(descriptor, place, source).await,
                    None => Ok(()),
                }
            }
            outcome => outcome,
        }
    }

    /// One request with all the bytes (distribution specification, monolithic upload). Broken, it is begun anew.
    async fn send_whole(
        &self,
        descriptor: &Descriptor,
        mut place: Url,
        source: &Source,
    ) -> Result<(), RegistryError> {
        let retry = self.shared().transport.config().retry;
        let mut failures = 0;
        loop {
            let error = match self.end(descriptor, &place, Some(source)).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            failures += 1;
            let wait = retry.wait(failures, error.retry_after()).filter(|_| error.is_passing());
            let Some(wait) = wait else { return Err(error) };
            tracing::debug!(digest = %descriptor.digest, %error, "upload broke, beginning anew");
            tokio::time::sleep(wait).await;
            if self.has_blob(&descriptor.digest).await? {
                return Ok(());
            }
            match self.begin(&descriptor.digest, None).await? {
                Some(next) => place = next,
                None => return Ok(()),
            }
        }
    }

    async fn send_parts(
        &self,
        descriptor: &Descriptor,
        mut upload: Url,
        source: &Source,
    ) -> Result<(), RegistryError> {
        let retry = self.shared().transport.config().retry;
        let (mut offset, mut furthest, mut failures) = (0, 0, 0);
        // what one request may carry; less once the registry has called it too much
        let mut most = descriptor.size;
        while offset < descriptor.size {
            let end = offset.saturating_add(most).min(descriptor.size);
            match self.patch(&upload, descriptor.size, offset..end, source).await {
                Ok(next) => (upload, offset, failures) = (next, end, 0),
                Err(error) if error.status() == Some(TOO_LARGE) && most > LEAST => {
                    most = (most / 2).clamp(LEAST, PART);
                    (upload, offset) = self.upload_status(&upload).await?;
                }
                Err(error) if error.is_passing() => {
                    failures += 1;
                    let Some(wait) = retry.wait(failures, error.retry_after()) else { return Err(error) };
                    tracing::debug!(digest = %descriptor.digest, offset, %error, "upload broke, going on");
                    tokio::time::sleep(wait).await;
                    (upload, offset) = self.upload_status(&upload).await?;
                }
                Err(error) => return Err(error),
            }
            offset = offset.min(descriptor.size);
            if offset > furthest {
                (furthest, failures) = (offset, 0);
            }
        }
        match self.end(descriptor, &upload, None).await {
            // the answer may have been lost, and not the request
            Err(error) if error.is_passing() || error.status() == Some(404) => {
                if self.has_blob(&descriptor.digest).await? { Ok(()) } else { Err(error) }
            }
            outcome => outcome,
        }
    }

    /// Ends an upload, with the blob's bytes if `source` is given.
    async fn end(
        &self,
        descriptor: &Descriptor,
        upload: &Url,
        source: Option<&Source>,
    ) -> Result<(), RegistryError> {
        let mut url = upload.clone();
        url.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
        let mut request = Outgoing::new(Method::PUT, url);
        let length = source.map_or(0, |_| descriptor.size);
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if let Some(source) = source.cloned() {
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            request.once = true;
            request.content = Some(Arc::new(move || Body::wrap_stream(source(0))));
        }
        let request = &request;
        self.over_endpoints(Act::Push, |session: Arc<Session>| {
            Box::pin(
                async move { accepted(&Method::PUT, session.send(request.clone()).await?).await.map(drop) },
            )
        })
        .await
    }

    async fn patch(
        &self,
        upload: &Url,
        size: u64,
        part: std::ops::Range<u64>,
        source: &Source,
    ) -> Result<Url, RegistryError> {
        let (source, is_whole) = (source.clone(), part == (0..size));
        let wanted = part.end - part.start;
        let start = part.start;
        let content: Content =
            Arc::new(move || Body::wrap_stream(Taken { stream: source(start), left: wanted }));
        let mut request = Outgoing::new(Method::PATCH, upload.clone());
        let headers = &mut request.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(wanted));
        if !is_whole && let Ok(range) = HeaderValue::from_str(&format!("{}-{}", part.start, part.end - 1)) {
            headers.insert(reqwest::header::CONTENT_RANGE, range);
        }
        request.content = Some(content);
        request.once = true;
        let request = &request;
        self.over_endpoints(Act::Push, |session: Arc<Session>| {
            Box::pin(async move {
                let response = accepted(&Method::PATCH, session.send(request.clone()).await?).await?;
                place(&request.url, response.headers())
            })
        })
        .await
    }

    /// Where an upload goes on, and how many bytes of it are there.
    async fn upload_status(&self, upload: &Url) -> Result<(Url, u64), RegistryError> {
        self.over_endpoints(Act::Push, |session: Arc<Session>| {
            Box::pin(async move {
                let request = Outgoing::new(Method::GET, upload.clone());
                let response = accepted(&Method::GET, session.send(request).await?).await?;
                let range = response.headers().get(RANGE).and_then(|range| range.to_str().ok());
                // `0-0` is said for nothing as well as for one byte: nothing is the safe reading
                let last = range
                    .and_then(|range| range.trim_start_matches("bytes=").split_once('-')?.1.parse().ok());
                let stands = last.map_or(0, |last: u64| if last == 0 { 0 } else { last.saturating_add(1) });
                Ok((place(upload, response.headers()).unwrap_or_else(|_| upload.clone()), stands))
            })
        })
        .await
    }
}

/// The first bytes of a stream.
struct Taken {
    stream: Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send + Sync>>,
    left: u64,
}

impl Stream for Taken {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let next = ready!(self.stream.as_mut().poll_next(context));
        Poll::Ready(next.map(|piece| {
            let mut piece = piece?;
            piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= piece.len() as u64;
            Ok(piece)
        }))
    }
}

/// Of the repositories that have a blob, the one whose name is most like the target's, as containerd chooses.
fn nearest<'a>(target: &str, mounts: &'a [String]) -> Option<&'a str> {
    let shared = |from: &str| from.split('/').zip(target.split('/')).take_while(|(a, b)| a == b).count();
    mounts.iter().map(String::as_str).filter(|from| *from != target).max_by_key(|from| shared(from))
}

/// Whether the registry may take the blob without a mount: it does not show the other repository, or knows no mounts.
fn is_mount_refused(error: &RegistryError) -> bool {
    matches!(error.status(), Some(400 | 401 | 403 | 404 | 405 | 501))
        || matches!(error, RegistryError::NoCredentials { .. })
}

/// Whether the registry knows no uploads in parts.
fn is_without_parts(error: &RegistryError) -> bool {
    matches!(error.status(), Some(404 | 405 | 415 | 501))
}

async fn accepted(method: &Method, response: Response) -> Result<Response, RegistryError> {
    if response.status().is_success() { Ok(response) } else { Err(answer::refusal(method, response).await) }
}

/// The `Location` of an upload. Credentials go along only on the registry's own origin.
fn place(from: &Url, headers: &HeaderMap) -> Result<Url, RegistryError> {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let target = location.and_then(|location| from.join(location).ok());
    match target {
        Some(target) if target.scheme() == "https" || target.scheme() == from.scheme() => Ok(target),
        _ => Err(malformed(&Method::POST, from, "the upload has no usable location")),
    }
}
