//! Streaming a blob: bounded by its descriptor, verified, and gone on with where a connection broke.

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Method, Response, StatusCode};
use wharf_vocab::{Digest, Digester};

use crate::answer::malformed;
use crate::config::Retry;
use crate::error::RegistryError;
use crate::manifest::Descriptor;
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
                Err(error) if error.is_passing() => self.wait_for_retry(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn finish(&mut self) -> Result<Option<Bytes>, RegistryError> {
        self.response = None;
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
        if self.response.is_none() {
            self.response = Some(self.open().await?);
        }
        let Some(response) = &mut self.response else { return Ok(Bytes::new()) };
        let url = response.url().clone();
        let chunk = response.chunk().await.map_err(|e| broken(&Method::GET, &url, &e))?;
        let Some(mut chunk) = chunk else {
            return Err(RegistryError::Transport {
                method: "Get",
                url: crate::transport::shown(&url),
                reason: "unexpected EOF".to_owned(),
            });
        };
        if self.excess > 0 {
            let skipped = usize::try_from(self.excess).unwrap_or(usize::MAX).min(chunk.len());
            let _ = chunk.split_to(skipped);
            self.excess -= skipped as u64;
        }
        Ok(chunk)
    }

    async fn open(&mut self) -> Result<Response, RegistryError> {
        self.connections += 1;
        let opened = self.repository.open_blob(&self.descriptor.digest, self.offset).await;
        let response = match opened {
            Err(RegistryError::Api(api)) if api.status == StatusCode::RANGE_NOT_SATISFIABLE.as_u16() => {
                return Err(self.wrong_size(self.offset));
            }
            other => other?,
        };
        self.excess = 0;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = response.headers().get(CONTENT_RANGE).and_then(|r| r.to_str().ok());
            let start = range.and_then(|r| r.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
            if start != Some(self.offset) {
                return Err(malformed(
                    &Method::GET,
                    response.url(),
                    "the range sent is not the one asked for",
                ));
            }
        } else {
            self.excess = self.offset;
        }
        let length =
            response.headers().get(CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse::<u64>().ok());
        let expected = self.descriptor.size - self.offset + self.excess;
        match length {
            Some(length) if length != expected => {
                Err(self.wrong_size((self.offset - self.excess).saturating_add(length)))
            }
            _ => Ok(response),
        }
    }

    async fn wait_for_retry(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.response = None;
        self.failures += 1;
        let retry = self.repository.shared().transport.config().retry;
        if self.failures >= retry.attempts || self.connections >= Retry::MAX_CONNECTIONS {
            return Err(error);
        }
        tracing::debug!(digest = %self.descriptor.digest, offset = self.offset, %error, "download broke, going on");
        tokio::time::sleep(retry.delay_before(self.failures - 1)).await;
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

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob")
            .field("digest", &self.descriptor.digest)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
