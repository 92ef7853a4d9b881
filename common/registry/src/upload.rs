//! Pushing: mounts from other repositories, uploads that go on where a connection broke, manifests.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio_stream::Stream;
use wharf_vocab::Digest;

use crate::answer::{self, malformed};
use crate::error::RegistryError;
use crate::manifest::Descriptor;
use crate::repository::{Repository, Target};
use crate::session::Session;
use crate::transport::{Content, Outgoing};

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
        self.has(&format!("/v2/{}/blobs/{digest}", self.path())).await
    }

    /// Whether the repository has this very manifest, under the target.
    pub async fn has_manifest(&self, target: &Target, digest: &Digest) -> Result<bool, RegistryError> {
        match self.resolve(target).await {
            Ok(found) => Ok(found.digest == *digest),
            Err(RegistryError::Api(api)) if api.status == StatusCode::NOT_FOUND.as_u16() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Brings a blob: from `mounts`, repositories of the same registry that are said to have it, or by sending it.
    pub async fn upload(
        &self,
        descriptor: &Descriptor,
        mounts: &[String],
        source: &Source,
    ) -> Result<Uploaded, RegistryError> {
        if self.has_blob(&descriptor.digest).await? {
            return Ok(Uploaded::Existed);
        }
        let from = mounts.iter().find(|from| from.as_str() != self.path());
        let Some(place) = self.begin(&descriptor.digest, from.map(String::as_str)).await? else {
            return Ok(Uploaded::Mounted);
        };
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
        self.over_endpoints(|session: Arc<Session>| {
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
        self.over_endpoints(|session: Arc<Session>| {
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
        let path = format!("/v2/{}/blobs/uploads/", self.path());
        let path = path.as_str();
        self.over_endpoints(|session: Arc<Session>| {
            Box::pin(async move {
                let mut url = session.url(path)?;
                if let Some(from) = from {
                    url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
                }
                let mut request = Outgoing::new(Method::POST, url.clone());
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

    /// Sends the bytes, taking the upload up where the registry says it stands after a broken connection.
    async fn send_blob(
        &self,
        descriptor: &Descriptor,
        mut upload: Url,
        source: &Source,
    ) -> Result<(), RegistryError> {
        let retry = self.shared().transport.config().retry;
        let (mut offset, mut failures) = (0, 0);
        while offset < descriptor.size {
            match self.patch(&upload, descriptor.size, offset, source).await {
                Ok(next) => {
                    upload = next;
                    offset = descriptor.size;
                }
                Err(error) if error.is_passing() && failures < retry.attempts => {
                    tracing::debug!(digest = %descriptor.digest, offset, %error, "upload broke, going on");
                    tokio::time::sleep(retry.delay_before(failures)).await;
                    failures += 1;
                    let (next, stands) = self.upload_status(&upload).await?;
                    (upload, offset) = (next, stands.min(descriptor.size));
                }
                Err(error) => return Err(error),
            }
        }
        upload.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
        let mut request = Outgoing::new(Method::PUT, upload);
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let request = &request;
        self.over_endpoints(|session: Arc<Session>| {
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
        offset: u64,
        source: &Source,
    ) -> Result<Url, RegistryError> {
        let source = source.clone();
        let content: Content = Arc::new(move || Body::wrap_stream(source(offset)));
        let mut request = Outgoing::new(Method::PATCH, upload.clone());
        let headers = &mut request.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size - offset));
        if offset > 0
            && let Ok(range) = HeaderValue::from_str(&format!("{offset}-{}", size - 1))
        {
            headers.insert(reqwest::header::CONTENT_RANGE, range);
        }
        request.content = Some(content);
        let request = &request;
        self.over_endpoints(|session: Arc<Session>| {
            Box::pin(async move {
                let response = accepted(&Method::PATCH, session.send(request.clone()).await?).await?;
                place(&request.url, response.headers())
            })
        })
        .await
    }

    /// Where an upload goes on, and how many bytes of it are there.
    async fn upload_status(&self, upload: &Url) -> Result<(Url, u64), RegistryError> {
        self.over_endpoints(|session: Arc<Session>| {
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
