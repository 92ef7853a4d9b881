//! Leases: what keeps content and snapshots alive until something references them.

use std::time::{Duration, SystemTime};

use wharf_containerd::containerd::services::leases::v1 as wire;
use wire::leases_client::LeasesClient;

use crate::convert;
use crate::error::BackendError;
use crate::link::{Backend, Link, client};
use crate::types::Labels;

/// A lease that stands in the daemon. It is not deleted on drop: call [`Backend::lease_delete`], or let it expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    id: String,
    pub labels: Labels,
    pub created_at: SystemTime,
}

impl Lease {
    /// The lease's id, as sent in the `containerd-lease` header.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A lease known by name, such as one recorded before a restart. The daemon refuses calls under an id it does not know.
    pub fn known(id: impl Into<String>) -> Self {
        Self { id: id.into(), labels: Labels::new(), created_at: SystemTime::UNIX_EPOCH }
    }
}

/// What a lease can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    Content,
    Snapshot,
    Ingest,
}

/// Collection of a lease and what it holds begins after this time (RFC 3339).
const EXPIRE_LABEL: &str = "containerd.io/gc.expire";

impl Backend {
    /// Creates a lease that expires after `lifetime` (none: never). An empty id lets the daemon choose.
    pub async fn lease_create(
        &self,
        id: &str,
        labels: &Labels,
        lifetime: Option<Duration>,
    ) -> Result<Lease, BackendError> {
        let mut all = convert::wire_labels(labels);
        if let Some(lifetime) = lifetime {
            let stamp = prost_types::Timestamp::from(SystemTime::now() + lifetime);
            all.insert(EXPIRE_LABEL.to_owned(), stamp.to_string());
        }
        let request = wire::CreateRequest { id: id.to_owned(), labels: all };
        let answer = self
            .change("create lease", id, None, |link| async move {
                client!(LeasesClient<Link>, link).create(request).await
            })
            .await?;
        let lease = answer.lease.unwrap_or_default();
        Ok(from_wire(lease))
    }

    /// Deletes a lease; one that is gone already is no error. `sync` waits for the collection it causes.
    pub async fn lease_delete(&self, lease: &Lease, sync: bool) -> Result<(), BackendError> {
        let request = wire::DeleteRequest { id: lease.id.clone(), sync };
        let done = self
            .change("delete lease", &lease.id, None, |link| async move {
                client!(LeasesClient<Link>, link).delete(request).await
            })
            .await;
        match done {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Every lease that one of the filters matches; all without filters.
    pub async fn lease_list(&self, filters: &[String]) -> Result<Vec<Lease>, BackendError> {
        let answer = self
            .read("list leases", "", |link| async move {
                let request = wire::ListRequest { filters: filters.to_vec() };
                client!(LeasesClient<Link>, link).list(request).await
            })
            .await?;
        Ok(answer.leases.into_iter().map(from_wire).collect())
    }

    /// Adds content (`id` is a digest), a snapshot of this backend's snapshotter (its key) or an ingest (its ref).
    pub async fn lease_add(&self, lease: &Lease, kind: ResourceKind, id: &str) -> Result<(), BackendError> {
        let resource = wire::Resource { id: id.to_owned(), r#type: self.resource_type(kind) };
        let request = wire::AddResourceRequest { id: lease.id.clone(), resource: Some(resource) };
        self.change("add to lease", &lease.id, None, |link| async move {
            client!(LeasesClient<Link>, link).add_resource(request).await
        })
        .await
    }

    /// Takes a resource out of a lease.
    pub async fn lease_remove(
        &self,
        lease: &Lease,
        kind: ResourceKind,
        id: &str,
    ) -> Result<(), BackendError> {
        let resource = wire::Resource { id: id.to_owned(), r#type: self.resource_type(kind) };
        let request = wire::DeleteResourceRequest { id: lease.id.clone(), resource: Some(resource) };
        self.change("remove from lease", &lease.id, None, |link| async move {
            client!(LeasesClient<Link>, link).delete_resource(request).await
        })
        .await
    }

    fn resource_type(&self, kind: ResourceKind) -> String {
        match kind {
            ResourceKind::Content => "content".to_owned(),
            ResourceKind::Snapshot => format!("snapshots/{}", self.snapshotter()),
            ResourceKind::Ingest => "ingests".to_owned(),
        }
    }
}

fn from_wire(lease: wire::Lease) -> Lease {
    Lease { id: lease.id, labels: convert::labels(lease.labels), created_at: convert::time(lease.created_at) }
}
