//! The write stream: one ingest, a request and an answer in turn, until a commit or the end of the stream.

use lifecycle_content::{ContentError, WriteOptions, Writer};
use lifecycle_metadata::Scope;
use tokio::sync::mpsc::Sender;
use tonic::{Status, Streaming};
use wharf_containerd::containerd::services::content::v1 as api;
use wharf_kinds::Kind;
use wharf_vocab::Digest;

use super::digest;
use crate::status::status;
use crate::storage::{Storage, blocking};
use crate::wire;

type Answer = Result<api::WriteContentResponse, Status>;

/// Serves the stream; the client hears of an error as the stream's end.
pub(super) async fn serve(
    storage: Storage,
    scope: Scope,
    requests: Streaming<api::WriteContentRequest>,
    answers: Sender<Answer>,
) {
    if let Err(status) = converse(storage, scope, requests, &answers).await {
        let _ = answers.send(Err(status)).await;
    }
}

/// What the requests so far have said of the whole.
struct Session {
    storage: Storage,
    scope: Scope,
    reference: String,
    total: u64,
    expected: Option<Digest>,
}

async fn converse(
    storage: Storage,
    scope: Scope,
    mut requests: Streaming<api::WriteContentRequest>,
    answers: &Sender<Answer>,
) -> Result<(), Status> {
    let Some(mut request) = requests.message().await? else { return Ok(()) };
    if request.r#ref.is_empty() {
        return Err(status(Kind::InvalidArgument, "first message must have a reference"));
    }
    let mut session = Session { storage, scope, reference: request.r#ref.clone(), total: 0, expected: None };
    session.learn(&request)?;
    let mut writer = session.open().await?;
    loop {
        session.learn(&request)?;
        if !request.expected.is_empty() {
            writer = session.refuse_if_here(writer).await?;
        }
        let action = api::WriteAction::try_from(request.action)
            .map_err(|_| status(Kind::InvalidArgument, format_args!("unknown action {}", request.action)))?;
        let (after, answer) = session.act(writer, action, request).await?;
        if answers.send(Ok(answer)).await.is_err() {
            return Ok(());
        }
        let Some(open) = after else { return Ok(()) };
        writer = open;
        match requests.message().await? {
            Some(next) => request = next,
            None => return Ok(()),
        }
    }
}

impl Session {
    fn learn(&mut self, request: &api::WriteContentRequest) -> Result<(), Status> {
        if request.total < 0 || request.offset < 0 {
            return Err(status(
                Kind::InvalidArgument,
                "sizes and offsets are not negative: invalid argument",
            ));
        }
        if !request.expected.is_empty() {
            self.expected = Some(digest(&request.expected)?);
        }
        if request.total > 0 {
            self.total = request.total.unsigned_abs();
        }
        Ok(())
    }

    async fn open(&self) -> Result<Writer, Status> {
        let (storage, scope) = (self.storage.clone(), self.scope.clone());
        let (reference, total, expected) = (self.reference.clone(), self.total, self.expected.clone());
        blocking(move || {
            let options = WriteOptions { reference: &reference, total, expected: expected.as_ref() };
            // as in containerd what was announced counts when it is committed
            storage.content.writer(&scope, &options).map(Writer::unlimited)
        })
        .await
    }

    /// The expected blob may have come by another way since.
    async fn refuse_if_here(&self, writer: Writer) -> Result<Writer, Status> {
        let Some(expected) = self.expected.clone() else { return Ok(writer) };
        let (storage, scope, reference) = (self.storage.clone(), self.scope.clone(), self.reference.clone());
        blocking(move || -> Result<_, ContentError> {
            match storage.content.info(&scope, &expected) {
                Ok(_) => {
                    drop(writer);
                    storage.content.abort(&scope, &reference)?;
                    Ok(Err(format!("blob with expected digest {expected} exists: already exists")))
                }
                Err(_) => Ok(Ok(writer)),
            }
        })
        .await?
        .map_err(|text| status(Kind::AlreadyExists, text))
    }

    /// Does what one request asks. The writer is gone after a commit.
    async fn act(
        &self,
        mut writer: Writer,
        action: api::WriteAction,
        request: api::WriteContentRequest,
    ) -> Result<(Option<Writer>, api::WriteContentResponse), Status> {
        let wanted = request.offset.unsigned_abs();
        let offset = writer.progress().offset;
        if action != api::WriteAction::Stat && wanted > 0 && wanted != offset {
            let text = format!("write @{wanted} must occur at current offset {offset}: out of range");
            return Err(status(Kind::OutOfRange, text));
        }
        let total = self.total;
        if action == api::WriteAction::Stat {
            let digest = writer.digest();
            let answer = answer(action, &writer, total, digest);
            return Ok((Some(writer), answer));
        }
        let data = request.data;
        let restart = wanted == 0 && offset > 0;
        let writer = blocking(move || -> Result<Writer, ContentError> {
            if restart {
                writer.truncate(0)?;
            }
            writer.write(&data)?;
            Ok(writer)
        })
        .await?;
        if action == api::WriteAction::Write {
            let digest = writer.digest();
            let answer = answer(action, &writer, total, digest);
            return Ok((Some(writer), answer));
        }
        let mut answer = answer(action, &writer, total, Digest::sha256(b""));
        let expected = self.expected.clone();
        let labels = wire::labels(request.labels);
        let info = blocking(move || writer.commit(total, expected.as_ref(), labels)).await?;
        answer.digest = info.digest.to_string();
        Ok((None, answer))
    }
}

fn answer(
    action: api::WriteAction,
    writer: &Writer,
    total: u64,
    digest: Digest,
) -> api::WriteContentResponse {
    let progress = writer.progress();
    api::WriteContentResponse {
        action: action.into(),
        started_at: wire::timestamp(progress.started),
        updated_at: wire::timestamp(progress.updated),
        offset: wire::signed(progress.offset),
        total: wire::signed(total.max(progress.total)),
        digest: digest.into(),
    }
}
