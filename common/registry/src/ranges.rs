//! A large blob over several connections: its ranges are fetched side by side and handed on in order.
//!
//! What is kept of ranges whose turn has not come is bounded: [`crate::Ranges::chunk`] bytes for each connection, and
//! the connections beside the first of each blob are counted over all blobs of a client.

use std::collections::VecDeque;

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use crate::answer::malformed;
use crate::blob::{compact, eof};
use crate::error::RegistryError;
use crate::manifest::Descriptor;
use crate::repository::Repository;
use crate::transport::broken;

/// Connections for one range before it is left to a single one from there on.
const TRIES: u32 = 2;

/// Bytes of a blob from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub start: u64,
    /// None: the blob's end.
    pub end: Option<u64>,
}

impl Range {
    /// The `Range` header, if not the whole is meant.
    pub fn header(self) -> Option<String> {
        match self {
            Self { start: 0, end: None } => None,
            Self { start, end: None } => Some(format!("bytes={start}-")),
            Self { start, end: Some(end) } => Some(format!("bytes={start}-{}", end.saturating_sub(1))),
        }
    }
}

/// Where a partial answer begins.
pub(crate) fn start_of(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// The ranges of a blob that are under way.
pub(crate) struct Window {
    repository: Repository,
    descriptor: Descriptor,
    chunk: u64,
    /// Where the next range begins that is not asked for.
    ahead: u64,
    parts: VecDeque<Part>,
    permits: Vec<OwnedSemaphorePermit>,
}

struct Part {
    missing: u64,
    // bounded by the range's length
    pieces: mpsc::UnboundedReceiver<Result<Bytes, RegistryError>>,
    fetching: JoinHandle<()>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.fetching.abort();
    }
}

impl Window {
    /// Connections beside the first that a blob of which so much is missing may take; none for a small one.
    pub fn permits(repository: &Repository, missing: u64) -> Vec<OwnedSemaphorePermit> {
        let shared = repository.shared();
        let ranges = shared.transport.config().ranges;
        if missing / 4 < ranges.chunk {
            return Vec::new();
        }
        let one = || shared.connections.clone().try_acquire_owned().ok();
        std::iter::from_fn(one).take(ranges.for_one).collect()
    }

    /// Goes on from the answer to the first range.
    pub fn new(
        repository: &Repository,
        descriptor: &Descriptor,
        first: Range,
        answer: Response,
        permits: Vec<OwnedSemaphorePermit>,
    ) -> Self {
        let chunk = repository.shared().transport.config().ranges.chunk;
        let mut window = Self {
            repository: repository.clone(),
            descriptor: descriptor.clone(),
            chunk,
            ahead: first.start,
            parts: VecDeque::new(),
            permits,
        };
        window.ask(Some(answer));
        window.fill();
        window
    }

    /// The next range of the blob; None behind its end.
    pub fn first(descriptor: &Descriptor, start: u64, chunk: u64) -> Range {
        Range { start, end: Some(start.saturating_add(chunk).min(descriptor.size)) }
    }

    fn ask(&mut self, answer: Option<Response>) {
        let range = Self::first(&self.descriptor, self.ahead, self.chunk);
        let end = range.end.unwrap_or(self.descriptor.size);
        let (send, pieces) = mpsc::unbounded_channel();
        let (repository, descriptor) = (self.repository.clone(), self.descriptor.clone());
        let fetching = tokio::spawn(async move {
            if let Err(error) = fetch(&repository, &descriptor, range, answer, &send).await {
                let _ = send.send(Err(error));
            }
        });
        self.parts.push_back(Part { missing: end - range.start, pieces, fetching });
        self.ahead = end;
    }

    fn fill(&mut self) {
        while self.parts.len() <= self.permits.len() && self.ahead < self.descriptor.size {
            self.ask(None);
        }
    }

    /// The next bytes in order; none at the blob's end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let Some(part) = self.parts.front_mut() else { return Ok(None) };
            if part.missing == 0 {
                self.parts.pop_front();
                self.fill();
                continue;
            }
            let piece = part.pieces.recv().await;
            let piece = piece.unwrap_or_else(|| Err(eof(&self.repository, &self.descriptor)))?;
            part.missing = part.missing.saturating_sub(piece.len() as u64);
            return Ok(Some(piece));
        }
    }
}

/// Sends the bytes of the range, and never more.
async fn fetch(
    repository: &Repository,
    descriptor: &Descriptor,
    mut range: Range,
    mut answer: Option<Response>,
    to: &mpsc::UnboundedSender<Result<Bytes, RegistryError>>,
) -> Result<(), RegistryError> {
    let end = range.end.unwrap_or(descriptor.size);
    let mut tries = 0;
    while range.start < end {
        tries += 1;
        let outcome = match answer.take() {
            Some(answer) => receive(answer, &mut range.start, end, to).await,
            None => match repository.open_blob(descriptor, range).await {
                Ok(answer) => receive(answer, &mut range.start, end, to).await,
                Err(error) => Err(error),
            },
        };
        match outcome {
            Ok(()) if range.start < end => return Err(eof(repository, descriptor)),
            Ok(()) => {}
            Err(error @ RegistryError::Transport { .. }) if tries < TRIES => {
                tracing::debug!(digest = %descriptor.digest, start = range.start, %error, "a range broke, going on");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn receive(
    mut answer: Response,
    start: &mut u64,
    end: u64,
    to: &mpsc::UnboundedSender<Result<Bytes, RegistryError>>,
) -> Result<(), RegistryError> {
    let url = answer.url().clone();
    if answer.status() != StatusCode::PARTIAL_CONTENT || start_of(&answer) != Some(*start) {
        return Err(malformed(&Method::GET, &url, "the range sent is not the one asked for"));
    }
    while *start < end {
        let Some(mut piece) = answer.chunk().await.map_err(|e| broken(&Method::GET, &url, &e))? else {
            return Ok(());
        };
        piece.truncate(usize::try_from(end - *start).unwrap_or(usize::MAX));
        *start += piece.len() as u64;
        if to.send(Ok(compact(&piece))).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_with_their_last_byte() {
        assert_eq!(Range { start: 0, end: None }.header(), None);
        assert_eq!(Range { start: 5, end: None }.header().as_deref(), Some("bytes=5-"));
        assert_eq!(Range { start: 0, end: Some(10) }.header().as_deref(), Some("bytes=0-9"));
    }
}
