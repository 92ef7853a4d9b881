//! containerd.services.snapshots.v1

use lifecycle_metadata::{SnapshotInfo, SnapshotKind};
use lifecycle_snapshots::{NATIVE, OVERLAYFS, Snapshotter};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::snapshots::v1 as api;
use wharf_kinds::Kind;

use crate::status::status;
use crate::storage::{Storage, blocking, scope};
use crate::wire;

/// Infos in one message of a list.
const BLOCK: usize = 100;

pub(crate) struct SnapshotsService(pub(crate) Storage);

impl SnapshotsService {
    fn snapshotter(&self, name: &str) -> Result<Snapshotter, Status> {
        match name {
            OVERLAYFS => Ok(self.0.snapshotter.clone()),
            NATIVE => Ok(self.0.native.clone()),
            "" => Err(status(Kind::InvalidArgument, "snapshotter argument missing: invalid argument")),
            other => Err(status(
                Kind::InvalidArgument,
                format_args!("snapshotter not loaded: {other}: invalid argument"),
            )),
        }
    }
}

fn message(info: SnapshotInfo) -> api::Info {
    let record = info.record;
    let kind = match record.kind {
        SnapshotKind::View => api::Kind::View,
        SnapshotKind::Active => api::Kind::Active,
        SnapshotKind::Committed => api::Kind::Committed,
    };
    api::Info {
        name: info.name,
        parent: record.parent,
        kind: kind.into(),
        created_at: wire::timestamp(record.created),
        updated_at: wire::timestamp(record.updated),
        labels: wire::label_map(record.labels),
    }
}

#[tonic::async_trait]
impl api::snapshots_server::Snapshots for SnapshotsService {
    async fn prepare(
        &self,
        request: Request<api::PrepareSnapshotRequest>,
    ) -> Result<Response<api::PrepareSnapshotResponse>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let labels = wire::labels(request.labels);
        let mounts =
            blocking(move || snapshotter.prepare(&scope, &request.key, &request.parent, labels)).await?;
        Ok(Response::new(api::PrepareSnapshotResponse { mounts: wire::mounts(mounts) }))
    }

    async fn view(
        &self,
        request: Request<api::ViewSnapshotRequest>,
    ) -> Result<Response<api::ViewSnapshotResponse>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let labels = wire::labels(request.labels);
        let mounts =
            blocking(move || snapshotter.view(&scope, &request.key, &request.parent, labels)).await?;
        Ok(Response::new(api::ViewSnapshotResponse { mounts: wire::mounts(mounts) }))
    }

    async fn mounts(
        &self,
        request: Request<api::MountsRequest>,
    ) -> Result<Response<api::MountsResponse>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let mounts = blocking(move || snapshotter.mounts(&scope, &request.key)).await?;
        Ok(Response::new(api::MountsResponse { mounts: wire::mounts(mounts) }))
    }

    async fn commit(&self, request: Request<api::CommitSnapshotRequest>) -> Result<Response<()>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let labels = wire::labels(request.labels);
        blocking(move || snapshotter.commit(&scope, &request.name, &request.key, &request.parent, labels))
            .await?;
        Ok(Response::new(()))
    }

    async fn remove(&self, request: Request<api::RemoveSnapshotRequest>) -> Result<Response<()>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        blocking(move || snapshotter.remove(&scope, &request.key)).await?;
        Ok(Response::new(()))
    }

    async fn stat(
        &self,
        request: Request<api::StatSnapshotRequest>,
    ) -> Result<Response<api::StatSnapshotResponse>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let info = blocking(move || snapshotter.stat(&scope, &request.key)).await?;
        Ok(Response::new(api::StatSnapshotResponse { info: Some(message(info)) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateSnapshotRequest>,
    ) -> Result<Response<api::UpdateSnapshotResponse>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let wanted = wire::required(request.info, "info")?;
        let labels = wire::labels(wanted.labels);
        let mask = wire::mask(request.update_mask);
        let info = blocking(move || snapshotter.update(&scope, &wanted.name, &labels, &mask)).await?;
        Ok(Response::new(api::UpdateSnapshotResponse { info: Some(message(info)) }))
    }

    type ListStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<api::ListSnapshotsResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let mut infos = blocking(move || snapshotter.list(&scope, &request.filters)).await?.into_iter();
        let blocks = std::iter::from_fn(move || {
            let info: Vec<_> = infos.by_ref().take(BLOCK).map(message).collect();
            (!info.is_empty()).then_some(Ok(api::ListSnapshotsResponse { info }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(blocks))))
    }

    async fn usage(
        &self,
        request: Request<api::UsageRequest>,
    ) -> Result<Response<api::UsageResponse>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let usage = blocking(move || snapshotter.usage(&scope, &request.key)).await?;
        let (size, inodes) = (wire::signed(usage.size), wire::signed(usage.inodes));
        Ok(Response::new(api::UsageResponse { size, inodes }))
    }

    async fn cleanup(&self, request: Request<api::CleanupRequest>) -> Result<Response<()>, Status> {
        let snapshotter = self.snapshotter(&request.into_inner().snapshotter)?;
        blocking(move || snapshotter.sweep()).await?;
        Ok(Response::new(()))
    }
}
