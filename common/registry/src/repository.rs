//! One repository of a registry: what its tags are, its manifests and its blobs.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LINK, RANGE};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use wharf_vocab::{Digest, is_tag};

use crate::answer::{self, malformed};
use crate::blob::Blob;
use crate::client::Shared;
use crate::credentials::CredentialSource;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::manifest::{ACCEPTED, Descriptor, MAX_MANIFEST, Manifest, media_types};
use crate::ranges::Range;
use crate::session::Session;
use crate::transport::Outgoing;

mod turns;

const CONTENT_DIGEST: &str = "docker-content-digest";
/// URLs of a foreign layer that are tried.
const MAX_URLS: usize = 8;
const MAX_TAGS: usize = 100_000;
const MAX_TAG_PAGES: usize = 1000;
const MAX_TAG_PAGE: usize = 4 << 20;

/// What of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tag(String),
    Digest(Digest),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => f.write_str(digest.as_str()),
        }
    }
}

/// A manifest as the registry stores it, verified against its digest.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    pub descriptor: Descriptor,
    /// Exactly the bytes that the digest is of.
    pub bytes: Vec<u8>,
    pub manifest: Manifest,
}

/// A repository and the credentials to read it with. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    domain: String,
    path: String,
    credentials: CredentialSource,
    /// What tokens are asked for: `pull`, or `pull,push`.
    actions: &'static str,
    endpoints: tokio::sync::OnceCell<Vec<Endpoint>>,
    sessions: tokio::sync::Mutex<Vec<Option<Arc<Session>>>>,
    /// Endpoints that were not there, which are not asked again.
    dead: Mutex<BTreeSet<usize>>,
}

/// What a request is about, and so who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Pull,
    /// What a name means: those who may be asked are trusted with it.
    Resolve,
    Push,
}

impl Repository {
    pub(crate) fn new(shared: Arc<Shared>, domain: &str, path: &str, credentials: CredentialSource) -> Self {
        Self::with_actions(shared, domain, path, credentials, "pull")
    }

    /// The same repository, to write to: mirrors are left out.
    pub fn for_push(&self) -> Self {
        let inner = &*self.inner;
        let credentials = inner.credentials.clone();
        Self::with_actions(inner.shared.clone(), &inner.domain, &inner.path, credentials, "pull,push")
    }

    /// The registry, such as `docker.io`.
    pub fn domain(&self) -> &str {
        &self.inner.domain
    }

    /// The repository's name in the registry.
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    fn with_actions(
        shared: Arc<Shared>,
        domain: &str,
        path: &str,
        credentials: CredentialSource,
        actions: &'static str,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                domain: domain.to_owned(),
                path: path.to_owned(),
                credentials,
                actions,
                endpoints: tokio::sync::OnceCell::new(),
                sessions: tokio::sync::Mutex::default(),
                dead: Mutex::default(),
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// The descriptor behind a tag or digest, without its content: one small request that registries do not count
    /// as a pull.
    pub async fn resolve(&self, target: &Target) -> Result<Descriptor, RegistryError> {
        let path = self.manifest_path(target)?;
        let path = path.as_str();
        self.over_endpoints(Act::of(target), |session: Arc<Session>| {
            Box::pin(async move {
                let response = session.send(manifest_request(Method::HEAD, session.url(path)?)).await?;
                if response.status().is_success()
                    && let Some(descriptor) = described(&response, target)
                {
                    return Ok(descriptor);
                }
                // a HEAD has no body to say why, and some registries leave the headers out
                self.get_manifest(&session, path, target, None).await.map(|m| m.descriptor)
            })
        })
        .await
    }

    /// The manifest behind a tag or digest.
    pub async fn manifest(&self, target: &Target) -> Result<FetchedManifest, RegistryError> {
        let path = self.manifest_path(target)?;
        let path = path.as_str();
        self.over_endpoints(Act::of(target), |session: Arc<Session>| {
            Box::pin(async move { self.get_manifest(&session, path, target, None).await })
        })
        .await
    }

    /// The manifest that a descriptor names, such as an index's entry.
    pub async fn manifest_of(&self, descriptor: &Descriptor) -> Result<FetchedManifest, RegistryError> {
        let target = Target::Digest(descriptor.digest.clone());
        let path = self.manifest_path(&target)?;
        let (target, expected) = (&target, Some(descriptor));
        let path = path.as_str();
        self.over_endpoints(Act::Pull, |session: Arc<Session>| {
            Box::pin(async move { self.get_manifest(&session, path, target, expected).await })
        })
        .await
    }

    /// The bytes of any document that a descriptor names, of an image or not: verified, and not looked into.
    pub async fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let target = Target::Digest(descriptor.digest.clone());
        let path = self.manifest_path(&target)?;
        let path = path.as_str();
        self.over_endpoints(Act::Pull, |session: Arc<Session>| {
            Box::pin(async move {
                let response = session.send(manifest_request(Method::GET, session.url(path)?)).await?;
                if !response.status().is_success() {
                    return Err(answer::refusal(&Method::GET, response).await);
                }
                let bytes = answer::body(response, MAX_MANIFEST, "manifest").await?;
                let actual = Digest::of(descriptor.digest.algorithm(), &bytes);
                if actual != descriptor.digest {
                    let expected = descriptor.digest.clone();
                    return Err(RegistryError::DigestMismatch { expected, actual });
                }
                Ok(bytes)
            })
        })
        .await
    }

    /// A blob's bytes from `offset` on, in chunks. Nothing is sent before the first [`Blob::next`].
    ///
    /// Read from the start it is verified against its digest. Read from further on only its length can be, and the
    /// reader has to verify the whole.
    pub fn blob(&self, descriptor: &Descriptor, offset: u64) -> Blob {
        Blob::new(self.clone(), descriptor.clone(), offset)
    }

    /// A whole blob of at most `limit` bytes, verified.
    pub async fn blob_all(&self, descriptor: &Descriptor, limit: usize) -> Result<Vec<u8>, RegistryError> {
        if usize::try_from(descriptor.size).map_or(true, |size| size > limit) {
            return Err(RegistryError::TooLarge { what: format!("blob {}", descriptor.digest), limit });
        }
        let mut blob = self.blob(descriptor, 0);
        let mut all = Vec::new();
        while let Some(chunk) = blob.next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// Every tag.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let path = format!("/{}/tags/list?n=1000", self.inner.path);
        let path = path.as_str();
        self.over_endpoints(Act::Resolve, |session: Arc<Session>| {
            Box::pin(async move {
                let mut url = session.url(path)?;
                let mut all = Vec::new();
                for _ in 0..MAX_TAG_PAGES {
                    let response = session.send(Outgoing::new(Method::GET, url.clone())).await?;
                    if !response.status().is_success() {
                        return Err(answer::refusal(&Method::GET, response).await);
                    }
                    let next = next_page(&url, response.headers());
                    let text = answer::body(response, MAX_TAG_PAGE, "list of tags").await?;
                    let page: Page = serde_json::from_slice(&text)
                        .map_err(|e| malformed(&Method::GET, &url, format!("list of tags: {e}")))?;
                    all.extend(page.tags.unwrap_or_default().into_iter().filter(|t| is_tag(t)));
                    if all.len() > MAX_TAGS {
                        return Err(RegistryError::TooLarge { what: "list of tags".into(), limit: MAX_TAGS });
                    }
                    match next {
                        Some(next) => url = next,
                        None => return Ok(all),
                    }
                }
                Err(RegistryError::TooLarge { what: "pages of tags".into(), limit: MAX_TAG_PAGES })
            })
        })
        .await
    }

    /// A blob's answer; the status is 200 or 206. What its publisher keeps is asked for there first.
    pub(crate) async fn open_blob(
        &self,
        descriptor: &Descriptor,
        range: Range,
    ) -> Result<Response, RegistryError> {
        let (digest, range) = (&descriptor.digest, range.header());
        let range = range.and_then(|range| HeaderValue::from_str(&range).ok());
        if descriptor.is_foreign() {
            for url in descriptor.urls.iter().take(MAX_URLS) {
                match self.open_elsewhere(url, range.clone()).await {
                    Ok(response) => return Ok(response),
                    Err(error) => {
                        tracing::debug!(%digest, %error, "publisher does not serve, trying the next")
                    }
                }
            }
        }
        let path = format!("/{}/blobs/{digest}", self.inner.path);
        let (path, range) = (path.as_str(), &range);
        self.over_endpoints(Act::Pull, |session: Arc<Session>| {
            Box::pin(async move {
                let mut request = Outgoing::new(Method::GET, session.url(path)?);
                request.once = true;
                if let Some(range) = range {
                    request.headers.insert(RANGE, range.clone());
                }
                let response = session.send(request).await?;
                if response.status().is_success() {
                    return Ok(response);
                }
                Err(answer::refusal(&Method::GET, response).await)
            })
        })
        .await
    }

    /// From a URL that a manifest names: without credentials, and over TLS unless the host may do without.
    async fn open_elsewhere(&self, url: &str, range: Option<HeaderValue>) -> Result<Response, RegistryError> {
        let wrong = || RegistryError::Settings("a layer's URL is no http or https URL".to_owned());
        let url: Url = url.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong());
        }
        let mut request = Outgoing::new(Method::GET, url);
        request.headers.extend(range.map(|range| (RANGE, range)));
        let endpoint = Endpoint::elsewhere(&request.url);
        let response = self.inner.shared.transport.send(&request, &endpoint).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(answer::refusal(&Method::GET, response).await)
    }

    pub(crate) fn manifest_path(&self, target: &Target) -> Result<String, RegistryError> {
        if let Target::Tag(tag) = target
            && !is_tag(tag)
        {
            return Err(RegistryError::Settings(format!("{tag:?} is no tag")));
        }
        Ok(format!("/{}/manifests/{target}", self.inner.path))
    }

    async fn get_manifest(
        &self,
        session: &Session,
        path: &str,
        target: &Target,
        expected: Option<&Descriptor>,
    ) -> Result<FetchedManifest, RegistryError> {
        let url = session.url(path)?;
        let response = session.send(manifest_request(Method::GET, url.clone())).await?;
        if !response.status().is_success() {
            return Err(answer::refusal(&Method::GET, response).await);
        }
        let announced = digest_header(response.headers());
        let content_type = content_type(response.headers());
        let bytes = answer::body(response, MAX_MANIFEST, "manifest").await?;
        let wanted = match target {
            Target::Digest(digest) => digest.clone(),
            Target::Tag(_) => announced.unwrap_or_else(|| Digest::sha256(&bytes)),
        };
        let actual = Digest::of(wanted.algorithm(), &bytes);
        if actual != wanted {
            return Err(RegistryError::DigestMismatch { expected: wanted, actual });
        }
        let size = bytes.len() as u64;
        if let Some(expected) = expected.filter(|e| e.size != size) {
            return Err(RegistryError::SizeMismatch {
                digest: wanted,
                expected: expected.size,
                actual: size,
            });
        }
        let hint = expected.map_or(content_type.as_str(), |e| e.media_type.as_str());
        let manifest = Manifest::parse(hint, &bytes)?;
        let descriptor = Descriptor::new(manifest.media_type(), wanted, size);
        Ok(FetchedManifest { descriptor, bytes, manifest })
    }
}

impl Act {
    fn of(target: &Target) -> Self {
        match target {
            Target::Tag(_) => Self::Resolve,
            Target::Digest(_) => Self::Pull,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
            Self::Push => "push",
        }
    }
}

pub(crate) fn manifest_request(method: Method, url: Url) -> Outgoing {
    let mut request = Outgoing::new(method, url);
    for media_type in ACCEPTED {
        request.headers.append(ACCEPT, HeaderValue::from_static(media_type));
    }
    request
}

pub(crate) fn digest_header(headers: &HeaderMap) -> Option<Digest> {
    Digest::parse(headers.get(CONTENT_DIGEST)?.to_str().ok()?).ok()
}

fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

/// The descriptor that the headers of a HEAD give, if they give all of it.
fn described(response: &Response, target: &Target) -> Option<Descriptor> {
    let headers = response.headers();
    let digest = match target {
        Target::Digest(digest) => digest.clone(),
        Target::Tag(_) => digest_header(headers)?,
    };
    let size: u64 = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    let media_type = content_type(headers);
    (size > 0 && media_types::is_manifest(&media_type)).then(|| Descriptor::new(&media_type, digest, size))
}

/// `Link: </v2/x/tags/list?n=…&last=…>; rel="next"` (RFC 8288), on the same origin.
fn next_page(current: &Url, headers: &HeaderMap) -> Option<Url> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("next") {
        return None;
    }
    current.join(target).ok().filter(|next| next.origin() == current.origin())
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("domain", &self.inner.domain)
            .field("path", &self.inner.path)
            .finish()
    }
}
