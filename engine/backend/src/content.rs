//! Content: blobs by digest, read and written in chunks.

use std::collections::VecDeque;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wharf_containerd::containerd::services::content::v1 as wire;
use wharf_kinds::Kind;
use wire::content_client::ContentClient;

use crate::convert;
use crate::error::BackendError;
use crate::images::mask;
use crate::leases::Lease;
use crate::link::{Backend, Link, client};
use crate::types::Labels;

/// A committed blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentInfo {
    pub digest: String,
    /// Bytes.
    pub size: u64,
    pub labels: Labels,
    pub created_at: SystemTime,
}

/// A blob being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    pub reference: String,
    /// Bytes the daemon has.
    pub offset: u64,
    /// Bytes expected; 0 if unknown.
    pub total: u64,
    pub started_at: SystemTime,
}

/// Bytes sent in one message.
const CHUNK: usize = 1 << 20;
/// Writes sent before their answers are awaited.
const IN_FLIGHT: usize = 4;

impl Backend {
    /// The record of a blob.
    pub async fn content_info(&self, digest: &str) -> Result<ContentInfo, BackendError> {
        let answer = self
            .read("stat content", digest, |link| async move {
                client!(ContentClient<Link>, link).info(wire::InfoRequest { digest: digest.to_owned() }).await
            })
            .await?;
        Ok(from_wire(answer.info.unwrap_or_default()))
    }

    /// Every blob that one of the filters matches; all without filters.
    pub async fn content_list(&self, filters: &[String]) -> Result<Vec<ContentInfo>, BackendError> {
        let mut stream = self
            .read("list content", "", |link| async move {
                let request = wire::ListContentRequest { filters: filters.to_vec() };
                client!(ContentClient<Link>, link).list(request).await
            })
            .await?;
        let mut all = Vec::new();
        while let Some(part) =
            stream.message().await.map_err(|s| BackendError::from_status("list content", "", &s))?
        {
            all.extend(part.info.into_iter().map(from_wire));
        }
        Ok(all)
    }

    /// Sets labels: the keys of `labels` are replaced (an empty value removes one), others stay.
    pub async fn content_set_labels(
        &self,
        digest: &str,
        labels: &Labels,
    ) -> Result<ContentInfo, BackendError> {
        let fields: Vec<String> = labels.keys().map(|k| format!("labels.{k}")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let info = wire::Info {
            digest: digest.to_owned(),
            labels: convert::wire_labels(labels),
            ..Default::default()
        };
        let request = wire::UpdateRequest { info: Some(info), update_mask: mask(&fields) };
        let answer = self
            .change("label content", digest, None, |link| async move {
                client!(ContentClient<Link>, link).update(request).await
            })
            .await?;
        Ok(from_wire(answer.info.unwrap_or_default()))
    }

    /// Deletes a blob at once, referenced or not. Normally the collector does this.
    pub async fn content_delete(&self, digest: &str) -> Result<(), BackendError> {
        let request = wire::DeleteContentRequest { digest: digest.to_owned() };
        self.change("delete content", digest, None, |link| async move {
            client!(ContentClient<Link>, link).delete(request).await
        })
        .await
    }

    /// Opens a blob for reading from `offset`; `length` 0 means to the end.
    pub async fn content_read(
        &self,
        digest: &str,
        offset: u64,
        length: u64,
    ) -> Result<ContentReader, BackendError> {
        let request = wire::ReadContentRequest {
            digest: digest.to_owned(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            size: i64::try_from(length).unwrap_or(i64::MAX),
        };
        let stream = self
            .read("read content", digest, |link| {
                let request = request.clone();
                async move { client!(ContentClient<Link>, link).read(request).await }
            })
            .await?;
        Ok(ContentReader { digest: digest.to_owned(), stream })
    }

    /// Reads a whole blob of at most `limit` bytes, such as a manifest or a config.
    ///
    /// # Errors
    /// ResourceExhausted if the blob is larger.
    pub async fn content_read_all(&self, digest: &str, limit: usize) -> Result<Vec<u8>, BackendError> {
        let mut reader = self.content_read(digest, 0, 0).await?;
        let mut all = Vec::new();
        while let Some(chunk) = reader.next().await? {
            if all.len() + chunk.len() > limit {
                let text = format!("content {digest} is larger than {limit} bytes");
                return Err(BackendError::new(Kind::ResourceExhausted, "read content", digest, text));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// Opens, or resumes, the ingest `reference`. `total` (bytes) and `expected` (digest) may be 0 and empty if
    /// unknown. [`ContentWriter::offset`] tells where to go on.
    ///
    /// # Errors
    /// AlreadyExists if content with the expected digest is there (nothing has to be written then);
    /// Unavailable if another writer holds the reference.
    pub async fn content_writer(
        &self,
        lease: &Lease,
        reference: &str,
        total: u64,
        expected: &str,
    ) -> Result<ContentWriter, BackendError> {
        let link = self.link("write content", reference, Some(lease)).await?;
        let (requests, queue) = mpsc::channel(IN_FLIGHT + 1);
        let first = wire::WriteContentRequest {
            action: wire::WriteAction::Stat.into(),
            r#ref: reference.to_owned(),
            total: i64::try_from(total).unwrap_or(i64::MAX),
            expected: expected.to_owned(),
            ..Default::default()
        };
        let fail = |status: tonic::Status| BackendError::from_status("write content", reference, &status);
        // room is certain: the queue is new
        let _ = requests.try_send(first);
        let mut answers = client!(ContentClient<Link>, link)
            .write(ReceiverStream::new(queue))
            .await
            .map_err(fail)?
            .into_inner();
        let stat = answers.message().await.map_err(fail)?.ok_or_else(|| closed(reference))?;
        Ok(ContentWriter {
            reference: reference.to_owned(),
            total: i64::try_from(total).unwrap_or(i64::MAX),
            expected: expected.to_owned(),
            offset: u64::try_from(stat.offset).unwrap_or(0),
            requests,
            answers,
            outstanding: VecDeque::new(),
        })
    }

    /// Writes a whole small blob; having it already is fine.
    pub async fn content_put(
        &self,
        lease: &Lease,
        reference: &str,
        digest: &str,
        data: &[u8],
        labels: &Labels,
    ) -> Result<(), BackendError> {
        let mut writer = match self.content_writer(lease, reference, data.len() as u64, digest).await {
            Ok(writer) => writer,
            Err(error) if error.kind() == Kind::AlreadyExists => {
                if !labels.is_empty() {
                    self.content_set_labels(digest, labels).await?;
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let start = usize::try_from(writer.offset()).unwrap_or(usize::MAX).min(data.len());
        writer.write(&data[start..]).await?;
        writer.commit(labels).await.map(|_| ())
    }

    /// The state of one ingest; NotFound if there is none.
    pub async fn ingest_status(&self, reference: &str) -> Result<Ingest, BackendError> {
        let answer = self
            .read("stat ingest", reference, |link| async move {
                let request = wire::StatusRequest { r#ref: reference.to_owned() };
                client!(ContentClient<Link>, link).status(request).await
            })
            .await?;
        let status = answer.status.unwrap_or_default();
        Ok(Ingest {
            reference: status.r#ref,
            offset: u64::try_from(status.offset).unwrap_or(0),
            total: u64::try_from(status.total).unwrap_or(0),
            started_at: convert::time(status.started_at),
        })
    }

    /// Throws an ingest away; one that is gone already is no error.
    pub async fn ingest_abort(&self, reference: &str) -> Result<(), BackendError> {
        let request = wire::AbortRequest { r#ref: reference.to_owned() };
        let done = self
            .change("abort ingest", reference, None, |link| async move {
                client!(ContentClient<Link>, link).abort(request).await
            })
            .await;
        match done {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}

/// A blob being read.
pub struct ContentReader {
    digest: String,
    stream: tonic::Streaming<wire::ReadContentResponse>,
}

impl ContentReader {
    /// The next bytes; None at the end. Chunks are at most the daemon's message size (usually 1 MiB).
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, BackendError> {
        let message = self.stream.message().await;
        match message.map_err(|s| BackendError::from_status("read content", &self.digest, &s))? {
            Some(part) => Ok(Some(part.data)),
            None => Ok(None),
        }
    }
}

/// A blob being written. Dropping it leaves the ingest to be resumed or aborted.
pub struct ContentWriter {
    reference: String,
    total: i64,
    expected: String,
    offset: u64,
    requests: mpsc::Sender<wire::WriteContentRequest>,
    answers: tonic::Streaming<wire::WriteContentResponse>,
    outstanding: VecDeque<u64>,
}

impl ContentWriter {
    /// Bytes the daemon has or has been sent: where the next write goes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends bytes. An error of one write may show at a later one or at the commit.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), BackendError> {
        for chunk in data.chunks(CHUNK) {
            while self.outstanding.len() >= IN_FLIGHT {
                self.settle_one().await?;
            }
            let request = wire::WriteContentRequest {
                action: wire::WriteAction::Write.into(),
                r#ref: self.reference.clone(),
                total: self.total,
                expected: self.expected.clone(),
                offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
                data: chunk.to_vec(),
                ..Default::default()
            };
            self.send(request).await?;
            self.offset += chunk.len() as u64;
            self.outstanding.push_back(self.offset);
        }
        Ok(())
    }

    /// Commits what was written, verified against the expected size and digest, and returns the digest. Content that
    /// is there already counts as committed.
    pub async fn commit(mut self, labels: &Labels) -> Result<String, BackendError> {
        while !self.outstanding.is_empty() {
            self.settle_one().await?;
        }
        let request = wire::WriteContentRequest {
            action: wire::WriteAction::Commit.into(),
            r#ref: self.reference.clone(),
            total: i64::try_from(self.offset).unwrap_or(i64::MAX),
            expected: self.expected.clone(),
            offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            labels: convert::wire_labels(labels),
            ..Default::default()
        };
        self.send(request).await?;
        match self.answer().await {
            Ok(answer) => Ok(answer.digest),
            Err(error) if error.kind() == Kind::AlreadyExists && !self.expected.is_empty() => {
                Ok(self.expected)
            }
            Err(error) => Err(error),
        }
    }

    async fn send(&mut self, request: wire::WriteContentRequest) -> Result<(), BackendError> {
        if self.requests.send(request).await.is_ok() {
            return Ok(());
        }
        // the daemon closed the stream: it tells why after its answers to the writes that it did
        while self.outstanding.pop_front().is_some() {
            self.answer().await?;
        }
        match self.answer().await {
            Ok(_) => Err(closed(&self.reference)),
            Err(error) => Err(error),
        }
    }

    async fn settle_one(&mut self) -> Result<(), BackendError> {
        let expected = self.outstanding.pop_front();
        let answer = self.answer().await?;
        match expected {
            Some(expected) if u64::try_from(answer.offset) != Ok(expected) => {
                let text = format!("daemon is at offset {} after a write up to {expected}", answer.offset);
                Err(BackendError::new(Kind::DataLoss, "write content", &self.reference, text))
            }
            _ => Ok(()),
        }
    }

    async fn answer(&mut self) -> Result<wire::WriteContentResponse, BackendError> {
        let message = self.answers.message().await;
        message
            .map_err(|s| BackendError::from_status("write content", &self.reference, &s))?
            .ok_or_else(|| closed(&self.reference))
    }
}

fn closed(reference: &str) -> BackendError {
    let text = format!("lifecycle daemon ended the write of {reference} early");
    BackendError::new(Kind::Unavailable, "write content", reference, text)
}

fn from_wire(info: wire::Info) -> ContentInfo {
    ContentInfo {
        digest: info.digest,
        size: u64::try_from(info.size).unwrap_or(0),
        labels: convert::labels(info.labels),
        created_at: convert::time(info.created_at),
    }
}
