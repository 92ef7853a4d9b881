//! containerd.services.namespaces.v1

use lifecycle_metadata::Namespace;
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::namespaces::v1 as api;

use crate::storage::{Storage, blocking};
use crate::wire;

pub(crate) struct NamespacesService(pub(crate) Storage);

fn message(namespace: Namespace) -> api::Namespace {
    api::Namespace { name: namespace.name, labels: wire::label_map(namespace.labels) }
}

fn namespace(message: api::Namespace) -> Namespace {
    Namespace { name: message.name, labels: wire::labels(message.labels) }
}

#[tonic::async_trait]
impl api::namespaces_server::Namespaces for NamespacesService {
    async fn get(
        &self,
        request: Request<api::GetNamespaceRequest>,
    ) -> Result<Response<api::GetNamespaceResponse>, Status> {
        let storage = self.0.clone();
        let name = request.into_inner().name;
        let found = blocking(move || storage.metadata.namespaces().get(&name)).await?;
        Ok(Response::new(api::GetNamespaceResponse { namespace: Some(message(found)) }))
    }

    async fn list(
        &self,
        _: Request<api::ListNamespacesRequest>,
    ) -> Result<Response<api::ListNamespacesResponse>, Status> {
        let storage = self.0.clone();
        let all = blocking(move || storage.metadata.namespaces().list()).await?;
        let namespaces = all.into_iter().map(message).collect();
        Ok(Response::new(api::ListNamespacesResponse { namespaces }))
    }

    async fn create(
        &self,
        request: Request<api::CreateNamespaceRequest>,
    ) -> Result<Response<api::CreateNamespaceResponse>, Status> {
        let storage = self.0.clone();
        let wanted = namespace(wire::required(request.into_inner().namespace, "namespace")?);
        let made =
            blocking(move || storage.metadata.namespaces().create(&wanted.name, wanted.labels)).await?;
        let made = message(made);
        Ok(Response::new(api::CreateNamespaceResponse { namespace: Some(made) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateNamespaceRequest>,
    ) -> Result<Response<api::UpdateNamespaceResponse>, Status> {
        let storage = self.0.clone();
        let request = request.into_inner();
        let wanted = namespace(wire::required(request.namespace, "namespace")?);
        let mask = wire::mask(request.update_mask);
        let updated = blocking(move || storage.metadata.namespaces().update(&wanted, &mask)).await?;
        let updated = message(updated);
        Ok(Response::new(api::UpdateNamespaceResponse { namespace: Some(updated) }))
    }

    async fn delete(&self, request: Request<api::DeleteNamespaceRequest>) -> Result<Response<()>, Status> {
        let storage = self.0.clone();
        let name = request.into_inner().name;
        blocking(move || storage.metadata.namespaces().delete(&name)).await?;
        Ok(Response::new(()))
    }
}
