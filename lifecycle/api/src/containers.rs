//! containerd.services.containers.v1

use std::time::SystemTime;

use lifecycle_metadata::{Container, Runtime};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::containers::v1 as api;
use wharf_kinds::Kind;

use crate::status::status;
use crate::storage::{Storage, blocking, scope};
use crate::wire;

pub(crate) struct ContainersService(pub(crate) Storage);

fn message(container: Container) -> api::Container {
    api::Container {
        id: container.id,
        labels: wire::label_map(container.labels),
        image: container.image,
        runtime: Some(api::container::Runtime {
            name: container.runtime.name,
            options: container.runtime.options.map(wire::any),
        }),
        spec: container.spec.map(wire::any),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        created_at: wire::timestamp(container.created),
        updated_at: wire::timestamp(container.updated),
        extensions: container.extensions.into_iter().map(|(name, value)| (name, wire::any(value))).collect(),
        sandbox: container.sandbox,
    }
}

fn container(message: api::Container) -> Container {
    let runtime = message.runtime.unwrap_or_default();
    Container {
        id: message.id,
        labels: wire::labels(message.labels),
        image: message.image,
        runtime: Runtime { name: runtime.name, options: runtime.options.map(wire::any_value) },
        spec: message.spec.map(wire::any_value),
        snapshotter: message.snapshotter,
        snapshot_key: message.snapshot_key,
        extensions: message.extensions.into_iter().map(|(name, any)| (name, wire::any_value(any))).collect(),
        sandbox: message.sandbox,
        created: SystemTime::UNIX_EPOCH,
        updated: SystemTime::UNIX_EPOCH,
    }
}

impl ContainersService {
    async fn found(&self, request: Request<api::ListContainersRequest>) -> Result<Vec<Container>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let filters = request.into_inner().filters;
        blocking(move || storage.metadata.containers().list(&scope, &filters)).await
    }
}

#[tonic::async_trait]
impl api::containers_server::Containers for ContainersService {
    async fn get(
        &self,
        request: Request<api::GetContainerRequest>,
    ) -> Result<Response<api::GetContainerResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let id = request.into_inner().id;
        let found = blocking(move || storage.metadata.containers().get(&scope, &id)).await?;
        Ok(Response::new(api::GetContainerResponse { container: Some(message(found)) }))
    }

    async fn list(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Result<Response<api::ListContainersResponse>, Status> {
        let containers = self.found(request).await?.into_iter().map(message).collect();
        Ok(Response::new(api::ListContainersResponse { containers }))
    }

    type ListStreamStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<api::ListContainerMessage, Status>> + Send>>;

    async fn list_stream(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        let found = self.found(request).await?;
        let one = |found| Ok(api::ListContainerMessage { container: Some(message(found)) });
        Ok(Response::new(Box::pin(tokio_stream::iter(found.into_iter().map(one)))))
    }

    async fn create(
        &self,
        request: Request<api::CreateContainerRequest>,
    ) -> Result<Response<api::CreateContainerResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let wanted = container(wire::required(request.into_inner().container, "Container")?);
        let made = blocking(move || storage.metadata.containers().create(&scope, wanted)).await?;
        let made = message(made);
        Ok(Response::new(api::CreateContainerResponse { container: Some(made) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateContainerRequest>,
    ) -> Result<Response<api::UpdateContainerResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let wanted = container(wire::required(request.container, "Container")?);
        if wanted.id.is_empty() {
            return Err(status(Kind::InvalidArgument, "Container.ID required"));
        }
        let mask = wire::mask(request.update_mask);
        let updated = blocking(move || storage.metadata.containers().update(&scope, &wanted, &mask)).await?;
        let updated = message(updated);
        Ok(Response::new(api::UpdateContainerResponse { container: Some(updated) }))
    }

    async fn delete(&self, request: Request<api::DeleteContainerRequest>) -> Result<Response<()>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let id = request.into_inner().id;
        blocking(move || storage.metadata.containers().delete(&scope, &id)).await?;
        Ok(Response::new(()))
    }
}
