//! `containerd.services.version.v1`: which program this is.

use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::version::v1::VersionResponse;
use wharf_containerd::containerd::services::version::v1::version_server::Version;

/// This daemon's version, semantic.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The source it was built from, if the build said so.
pub const REVISION: &str = match option_env!("WHARF_REVISION") {
    Some(revision) => revision,
    None => "",
};

pub(crate) struct VersionService;

#[tonic::async_trait]
impl Version for VersionService {
    async fn version(&self, _: Request<()>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse { version: VERSION.into(), revision: REVISION.into() }))
    }
}
