//! `grpc.reflection.v1` and `v1alpha`: the services and their messages, for clients without the .proto files.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic_reflection::pb;
use tonic_reflection::server::{Builder, Error};
use wharf_containerd::DESCRIPTORS;
use wharf_kinds::Kind;

use crate::status::status;

/// What is served. The descriptors have more: the shims' services, and those of containerd that are not served.
pub(crate) const SERVED: [&str; 18] = [
    "containerd.services.containers.v1.Containers",
    "containerd.services.content.v1.Content",
    "containerd.services.diff.v1.Diff",
    "containerd.services.events.v1.Events",
    "containerd.services.images.v1.Images",
    "containerd.services.introspection.v1.Introspection",
    "containerd.services.leases.v1.Leases",
    "containerd.services.namespaces.v1.Namespaces",
    "containerd.services.sandbox.v1.Controller",
    "containerd.services.sandbox.v1.Store",
    "containerd.services.snapshots.v1.Snapshots",
    "containerd.services.streaming.v1.Streaming",
    "containerd.services.tasks.v1.Tasks",
    "containerd.services.transfer.v1.Transfer",
    "containerd.services.version.v1.Version",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Adds both versions.
pub(crate) fn add_to(routes: &mut RoutesBuilder) {
    routes
        .add_service(OnDemand::new(|| builder().build_v1()))
        .add_service(OnDemand::new(|| builder().build_v1alpha()));
}

fn builder() -> Builder<'static> {
    let described = Builder::configure()
        .include_reflection_service(false)
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(pb::v1alpha::FILE_DESCRIPTOR_SET);
    SERVED.into_iter().fold(described, Builder::with_service_name)
}

/// A service that is made at its first call. The descriptors, decoded, are most of a megabyte, and hardly any daemon is
/// ever asked for them.
struct OnDemand<S> {
    make: fn() -> Result<S, Error>,
    made: Arc<OnceLock<S>>,
}

impl<S> OnDemand<S> {
    fn new(make: fn() -> Result<S, Error>) -> Self {
        OnDemand { make, made: Arc::default() }
    }
}

// clones share the service, whatever it is
impl<S> Clone for OnDemand<S> {
    fn clone(&self) -> Self {
        OnDemand { make: self.make, made: self.made.clone() }
    }
}

impl<S: NamedService> NamedService for OnDemand<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for OnDemand<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // tonic's own are always ready
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = match self.made.get() {
            Some(service) => Ok(service.clone()),
            // two first calls at once make two, of which one is kept
            None => (self.make)().map(|service| self.made.get_or_init(|| service).clone()),
        };
        match service {
            Ok(mut service) => Box::pin(service.call(request)),
            Err(error) => {
                let refused = status(Kind::Internal, error).into_http();
                Box::pin(std::future::ready(Ok(refused)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_complete() {
        assert!(builder().build_v1().is_ok() && builder().build_v1alpha().is_ok());
    }
}
