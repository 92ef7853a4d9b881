//! containerd.services.leases.v1

use lifecycle_metadata::{Lease, MetadataError, Resource};
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::leases::v1 as api;

use crate::storage::{Storage, blocking, scope};
use crate::wire;

pub(crate) struct LeasesService(pub(crate) Storage);

fn message(lease: Lease) -> api::Lease {
    api::Lease {
        id: lease.id,
        created_at: wire::timestamp(lease.created),
        labels: wire::label_map(lease.labels),
    }
}

fn resource(message: api::Resource) -> Resource {
    Resource { kind: message.r#type, id: message.id }
}

/// An id for who gives none: the time, so that they sort, and chance.
fn random_id() -> String {
    let since =
        std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut bytes = [0u8; 8];
    // without randomness the time alone must do
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{}-{:016x}", since.as_nanos(), u64::from_ne_bytes(bytes))
}

#[tonic::async_trait]
impl api::leases_server::Leases for LeasesService {
    async fn create(
        &self,
        request: Request<api::CreateRequest>,
    ) -> Result<Response<api::CreateResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let id = if request.id.is_empty() { random_id() } else { request.id };
        let labels = wire::labels(request.labels);
        let lease = blocking(move || storage.metadata.leases().create(&scope, &id, labels)).await?;
        Ok(Response::new(api::CreateResponse { lease: Some(message(lease)) }))
    }

    async fn delete(&self, request: Request<api::DeleteRequest>) -> Result<Response<()>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        blocking(move || storage.metadata.leases().delete(&scope, &request.id)).await?;
        if request.sync {
            let storage = self.0.clone();
            blocking(move || storage.collector.collect()).await?;
        }
        Ok(Response::new(()))
    }

    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<api::ListResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let filters = request.into_inner().filters;
        let leases = blocking(move || storage.metadata.leases().list(&scope, &filters)).await?;
        Ok(Response::new(api::ListResponse { leases: leases.into_iter().map(message).collect() }))
    }

    async fn add_resource(&self, request: Request<api::AddResourceRequest>) -> Result<Response<()>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let resource = resource(wire::required(request.resource, "resource")?);
        blocking(move || storage.metadata.leases().add_resource(&scope, &request.id, &resource)).await?;
        Ok(Response::new(()))
    }

    async fn delete_resource(
        &self,
        request: Request<api::DeleteResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let resource = resource(wire::required(request.resource, "resource")?);
        blocking(move || storage.metadata.leases().delete_resource(&scope, &request.id, &resource)).await?;
        Ok(Response::new(()))
    }

    async fn list_resources(
        &self,
        request: Request<api::ListResourcesRequest>,
    ) -> Result<Response<api::ListResourcesResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let id = request.into_inner().id;
        let found = blocking(move || -> Result<_, MetadataError> {
            storage.metadata.leases().resources(&scope, &id)
        })
        .await?;
        let resources = found.into_iter().map(|r| api::Resource { id: r.id, r#type: r.kind }).collect();
        Ok(Response::new(api::ListResourcesResponse { resources }))
    }
}
