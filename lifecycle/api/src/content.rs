//! containerd.services.content.v1

#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use lifecycle_content::IngestStatus;
use lifecycle_metadata::BlobInfo;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wharf_containerd::containerd::services::content::v1 as api;
use wharf_kinds::Kind;
use wharf_vocab::Digest;

use crate::status::status;
use crate::storage::{Storage, blocking, scope};
use crate::wire;

/// Infos in one message of a list.
const BLOCK: usize = 100;

/// Bytes in one message of a read; clients take messages of 4 MiB at least.
const CHUNK: u64 = 512 << 10;

pub(crate) struct ContentService(pub(crate) Storage);

fn message(info: BlobInfo) -> api::Info {
    api::Info {
        digest: info.digest.into(),
        size: wire::signed(info.size),
        created_at: wire::timestamp(info.created),
        updated_at: wire::timestamp(info.updated),
        labels: wire::label_map(info.labels),
    }
}

fn status_message(ingest: IngestStatus) -> api::Status {
    api::Status {
        started_at: wire::timestamp(ingest.started),
        updated_at: wire::timestamp(ingest.updated),
        r#ref: ingest.reference,
        offset: wire::signed(ingest.offset),
        total: wire::signed(ingest.total),
        expected: String::new(),
    }
}

fn digest(text: &str) -> Result<Digest, Status> {
    Digest::parse(text).map_err(|error| status(Kind::InvalidArgument, format_args!("{text:?}: {error}")))
}

type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl api::content_server::Content for ContentService {
    async fn info(&self, request: Request<api::InfoRequest>) -> Result<Response<api::InfoResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let digest = digest(&request.into_inner().digest)?;
        let info = blocking(move || storage.content.info(&scope, &digest)).await?;
        Ok(Response::new(api::InfoResponse { info: Some(message(info)) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateRequest>,
    ) -> Result<Response<api::UpdateResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let wanted = wire::required(request.info, "info")?;
        let digest = digest(&wanted.digest)?;
        let labels = wire::labels(wanted.labels);
        let mask = wire::mask(request.update_mask);
        let info = blocking(move || storage.content.update(&scope, &digest, &labels, &mask)).await?;
        Ok(Response::new(api::UpdateResponse { info: Some(message(info)) }))
    }

    type ListStream = Answers<api::ListContentResponse>;

    async fn list(
        &self,
        request: Request<api::ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let filters = request.into_inner().filters;
        let mut infos = blocking(move || storage.content.list(&scope, &filters)).await?.into_iter();
        let blocks = std::iter::from_fn(move || {
            let info: Vec<_> = infos.by_ref().take(BLOCK).map(message).collect();
            (!info.is_empty()).then_some(Ok(api::ListContentResponse { info }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(blocks))))
    }

    async fn delete(&self, request: Request<api::DeleteContentRequest>) -> Result<Response<()>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let digest = digest(&request.into_inner().digest)?;
        blocking(move || storage.content.delete(&scope, &digest)).await?;
        Ok(Response::new(()))
    }

    type ReadStream = Answers<api::ReadContentResponse>;

    /// `size` 0 reads to the end; beyond the end is cut. Offsets in the answers count from the first byte sent.
    async fn read(
        &self,
        request: Request<api::ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let digest = digest(&request.digest)?;
        let reader = Arc::new(blocking(move || storage.content.reader(&scope, &digest)).await?);
        let whole = reader.size();
        let start = u64::try_from(request.offset).unwrap_or(0);
        if start > whole {
            let text = format!("read past object length {whole} bytes: out of range");
            return Err(status(Kind::OutOfRange, text));
        }
        let wanted = u64::try_from(request.size).ok().filter(|&size| size > 0).unwrap_or(whole);
        let length = wanted.min(whole - start);
        let (send, receive) = mpsc::channel(2);
        tokio::spawn(async move {
            let mut done = 0;
            while done < length {
                let reader = Arc::clone(&reader);
                let count = CHUNK.min(length - done);
                let read = tokio::task::spawn_blocking(move || {
                    let mut data = vec![0; count as usize];
                    reader.read_at(&mut data, start + done).map(|_| data)
                });
                let answer = match read.await {
                    Ok(Ok(data)) => Ok(api::ReadContentResponse { offset: wire::signed(done), data }),
                    Ok(Err(error)) => {
                        Err(status(Kind::of_io(&error), format_args!("read the blob: {error}")))
                    }
                    Err(_) => Err(status(Kind::Internal, "reading the blob broke off")),
                };
                let failed = answer.is_err();
                if send.send(answer).await.is_err() || failed {
                    return;
                }
                done += count;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn status(
        &self,
        request: Request<api::StatusRequest>,
    ) -> Result<Response<api::StatusResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let reference = request.into_inner().r#ref;
        let found = blocking(move || storage.content.status(&scope, &reference)).await?;
        Ok(Response::new(api::StatusResponse { status: Some(status_message(found)) }))
    }

    async fn list_statuses(
        &self,
        request: Request<api::ListStatusesRequest>,
    ) -> Result<Response<api::ListStatusesResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let filters = request.into_inner().filters;
        let found = blocking(move || storage.content.statuses(&scope, &filters)).await?;
        let statuses = found.into_iter().map(status_message).collect();
        Ok(Response::new(api::ListStatusesResponse { statuses }))
    }

    type WriteStream = Answers<api::WriteContentResponse>;

    async fn write(
        &self,
        request: Request<Streaming<api::WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let requests = request.into_inner();
        // one answer at a time, so that a client that does not read is not written for
        let (send, receive) = mpsc::channel(1);
        tokio::spawn(write::serve(storage, scope, requests, send));
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn abort(&self, request: Request<api::AbortRequest>) -> Result<Response<()>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let reference = request.into_inner().r#ref;
        blocking(move || storage.content.abort(&scope, &reference)).await?;
        Ok(Response::new(()))
    }
}
