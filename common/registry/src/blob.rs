//! Streaming a blob: bounded by its descriptor, verified, and gone on with where a connection broke. A large one comes
//! in ranges over several connections, where the registry serves them.

use bytes::Bytes;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, Response, StatusCode};
use wharf_vocab::{Digest, Digester};

use crate::answer::malformed;
use crate::config::Retry;
use crate::error::RegistryError;
use crate::manifest::Descriptor;
use crate::ranges::{Range, Window, start_of};
use crate::repository::Repository;
use crate::transport::broken;

/// A blob being received.
pub struct Blob {
    repository: Repository,
    descriptor: Descriptor,
    /// Bytes handed out, counted from the blob's start.
    offset: u64,
    /// Absent when the reading began further on, and once verified.
    digester: Option<Digester>,
    response: Option<Response>,
    /// In the place of the one answer: ranges side by side.
    window: Option<Window>,
    /// The registry serves no ranges, or broke over them.
    one_by_one: bool,
    /// Bytes to throw away: the registry sent them although it was asked to start later.
    excess: u64,
    failures: u32,
    connections: u32,
}

impl Blob {
    pub(crate) fn new(repository: Repository, descriptor: Descriptor, offset: u64) -> Self {
        let digester = (offset == 0).then(|| Digester::new(descriptor.digest.algorithm()));
        Self {
            repository,
            descriptor,
            offset,
            digester,
            response: None,
            window: None,
            one_by_one: false,
            excess: 0,
            failures: 0,
            connections: 0,
        }
    }

    /// The reader verifies the whole itself: the bytes are not hashed on their way.
    pub fn unverified(mut self) -> Self {
        self.digester = None;
        self
    }

    /// Bytes handed out so far, those before the starting offset included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, or `None` once all were handed out and verified. A broken connection is made again and gone
    /// on with, with waits between, as often as [`Retry`] says.
    ///
    /// # Errors
    /// [`RegistryError::DigestMismatch`] and [`RegistryError::SizeMismatch`] come with the last bytes: what was
    /// received before is not to be trusted then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.offset >= self.descriptor.size {
                return self.finish();
            }
            match self.receive().await {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => {
                    self.failures = 0;
                    self.offset += chunk.len() as u64;
                    if self.offset > self.descriptor.size {
                        return Err(self.wrong_size(self.offset));
                    }
                    if let Some(digester) = &mut self.digester {
                        digester.update(&chunk);
                    }
                    return Ok(Some(chunk));
                }
                Err(error) if self.window.take().is_some() => {
                    // over one connection it may still come, with its retries
                    tracing::debug!(digest = %self.descriptor.digest, %error, "fetching ranges side by side failed");
                    self.one_by_one = true;
                    if error.is_passing() {
                        self.wait_for_retry(error).await?;
                    }
                }
                Err(error) if error.is_passing() => self.wait_for_retry(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn finish(&mut self) -> Result<Option<Bytes>, RegistryError> {
        self.response = None;
        self.window = None;
        if self.offset > self.descriptor.size {
            return Err(self.wrong_size(self.offset));
        }
        let Some(digester) = self.digester.take() else { return Ok(None) };
        let actual: Digest = digester.finish();
        if actual != self.descriptor.digest {
            return Err(RegistryError::DigestMismatch { expected: self.descriptor.digest.clone(), actual });
        }
        Ok(None)
    }

    async fn receive(&mut self) -> Result<Bytes, RegistryError> {
        if self.response.is_none() && self.window.is_none() {
            self.open().await?;
        }
        if let Some(window) = &mut self.window {
            return window.next().await?.ok_or_else(|| eof(&self.repository, &self.descriptor));
        }
        let Some(response) = &mut self.response else { return Ok(Bytes::new()) };
        let url = response.url().clone();
        let chunk = response.chunk().await.map_err(|e| broken(&Method::GET, &url, &e))?;
        let Some(mut chunk) = chunk else {
            return Err(eof(&self.repository, &self.descriptor));
        };
        if self.excess > 0 {
            let skipped = usize::try_from(self.excess).unwrap_or(usize::MAX).min(chunk.len());
            let _ = chunk.split_to(skipped);
            self.excess -= skipped as u64;
        }
        Ok(compact(&chunk))
    }

    /// Asks for the rest, or for the first of the ranges it is fetched in.
    async fn open(&mut self) -> Result<(), RegistryError> {
        self.connections += 1;
        let missing = self.descriptor.size - self.offset;
        let permits = match self.one_by_one || self.descriptor.is_foreign() {
            true => Vec::new(),
            false => Window::permits(&self.repository, missing),
        };
        let chunk = self.repository.shared().transport.config().ranges.chunk;
        let range = match permits.is_empty() {
            true => Range { start: self.offset, end: None },
            false => Window::first(&self.descriptor, self.offset, chunk),
        };
        let response = match self.repository.open_blob(&self.descriptor, range).await {
            Err(RegistryError::Api(api)) if api.status == StatusCode::RANGE_NOT_SATISFIABLE.as_u16() => {
                return Err(self.wrong_size(self.offset));
            }
            other => other?,
        };
        self.excess = 0;
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        if is_part && start_of(&response) != Some(self.offset) {
            return Err(malformed(&Method::GET, response.url(), "the range sent is not the one asked for"));
        }
        let length =
            response.headers().get(CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse::<u64>().ok());
        let expected = match (is_part, range.end) {
            (true, Some(end)) => end - self.offset,
            (true, None) => missing,
            (false, _) => self.descriptor.size,
        };
        if let Some(length) = length.filter(|length| *length != expected) {
            let before = if is_part { self.offset } else { 0 };
            return Err(self.wrong_size(before.saturating_add(length)));
        }
        if is_part && range.end.is_some() {
            self.window = Some(Window::new(&self.repository, &self.descriptor, range, response, permits));
            return Ok(());
        }
        if !is_part {
            self.excess = self.offset;
        }
        self.response = Some(response);
        Ok(())
    }

    async fn wait_for_retry(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.response = None;
        self.failures += 1;
        let retry = self.repository.shared().transport.config().retry;
        let wait = retry.wait(self.failures, error.retry_after());
        let Some(wait) = wait.filter(|_| self.connections < Retry::MAX_CONNECTIONS) else {
            return Err(error);
        };
        tracing::debug!(digest = %self.descriptor.digest, offset = self.offset, %error, "download broke, going on");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn wrong_size(&self, actual: u64) -> RegistryError {
        RegistryError::SizeMismatch {
            digest: self.descriptor.digest.clone(),
            expected: self.descriptor.size,
            actual,
        }
    }
}

/// The bytes in memory of their own. What the connection hands out keeps the whole buffer that it was read into, some
/// 400 KiB, however few they are; and pieces wait for their turn, and for the disk.
pub(crate) fn compact(piece: &[u8]) -> Bytes {
    Bytes::copy_from_slice(piece)
}

/// The connection ended before the content did.
pub(crate) fn eof(repository: &Repository, descriptor: &Descriptor) -> RegistryError {
    RegistryError::Transport {
        method: "Get",
        url: format!("{}/{}/blobs/{}", repository.domain(), repository.path(), descriptor.digest),
        reason: "unexpected EOF".to_owned(),
        is_connect: false,
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob")
            .field("digest", &self.descriptor.digest)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
