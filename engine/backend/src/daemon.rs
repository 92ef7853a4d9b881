//! The daemon itself: version, namespace.

use wharf_containerd::containerd::services::namespaces::v1 as namespaces;
use wharf_containerd::containerd::services::version::v1::version_client::VersionClient;
use wharf_kinds::Kind;

use crate::error::BackendError;
use crate::link::{Backend, Link, client};

/// What the lifecycle daemon says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonVersion {
    pub version: String,
    pub revision: String,
}

impl Backend {
    /// Version and revision of the lifecycle daemon.
    pub async fn daemon_version(&self) -> Result<DaemonVersion, BackendError> {
        let answer =
            self.read("ask version", "", |link| async move {
                client!(VersionClient<Link>, link).version(()).await
            })
            .await?;
        Ok(DaemonVersion { version: answer.version, revision: answer.revision })
    }

    /// Creates this backend's namespace; having it already is no error.
    pub async fn namespace_ensure(&self) -> Result<(), BackendError> {
        let name = self.config().namespace.clone();
        let request = namespaces::CreateNamespaceRequest {
            namespace: Some(namespaces::Namespace { name: name.clone(), ..Default::default() }),
        };
        let done = self
            .change("create namespace", &name, None, |link| async move {
                client!(namespaces::namespaces_client::NamespacesClient<Link>, link).create(request).await
            })
            .await;
        match done {
            Err(error) if error.kind() == Kind::AlreadyExists => Ok(()),
            other => other.map(|_| ()),
        }
    }
}
