//! The daemon's container records: what its tasks are created from.

use std::time::SystemTime;

use wharf_containerd::containerd::runc::v1::Options;
use wharf_containerd::containerd::services::containers::v1 as wire;
use wharf_containerd::type_url;
use wire::containers_client::ContainersClient;

use crate::convert;
use crate::error::BackendError;
use crate::link::{Backend, Link, client};
use crate::types::Labels;

/// Options every runc-like shim takes (`containerd.runc.v1.Options`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeOptions {
    /// The OCI runtime's program; empty lets the shim choose.
    pub binary_name: String,
    /// The runtime's state directory; empty lets the shim choose.
    pub root: String,
    pub systemd_cgroup: bool,
}

impl RuntimeOptions {
    pub(crate) fn to_any(&self) -> prost_types::Any {
        let options = Options {
            binary_name: self.binary_name.clone(),
            root: self.root.clone(),
            systemd_cgroup: self.systemd_cgroup,
            ..Default::default()
        };
        wharf_containerd::to_any(type_url::RUNC_OPTIONS, &options)
    }
}

/// A container record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    pub id: String,
    pub labels: Labels,
    /// Name of the image record, for people; may be empty.
    pub image: String,
    /// Such as `io.containerd.runc.v2`.
    pub runtime: String,
    pub options: RuntimeOptions,
    /// The OCI runtime spec, JSON.
    pub spec: Vec<u8>,
    /// Key of the writable snapshot, which the record keeps alive.
    pub snapshot_key: String,
    /// Set by the daemon.
    pub created_at: SystemTime,
}

impl Backend {
    /// Creates the record; AlreadyExists if the id is taken.
    pub async fn container_create(&self, record: &ContainerRecord) -> Result<(), BackendError> {
        let request = wire::CreateContainerRequest { container: Some(self.to_wire(record)) };
        self.change("create container", &record.id, None, |link| async move {
            client!(ContainersClient<Link>, link).create(request).await
        })
        .await
        .map(|_| ())
    }

    /// Replaces the record's spec, as before every start.
    pub async fn container_set_spec(&self, record: &ContainerRecord) -> Result<(), BackendError> {
        let request = wire::UpdateContainerRequest {
            container: Some(self.to_wire(record)),
            update_mask: crate::images::mask(&["spec"]),
        };
        self.change("update container", &record.id, None, |link| async move {
            client!(ContainersClient<Link>, link).update(request).await
        })
        .await
        .map(|_| ())
    }

    /// One record.
    pub async fn container_get(&self, id: &str) -> Result<ContainerRecord, BackendError> {
        let answer = self
            .read("get container", id, |link| async move {
                let request = wire::GetContainerRequest { id: id.to_owned() };
                client!(ContainersClient<Link>, link).get(request).await
            })
            .await?;
        Ok(from_wire(answer.container.unwrap_or_default()))
    }

    /// Ids of every record in the namespace.
    pub async fn container_ids(&self) -> Result<Vec<String>, BackendError> {
        let mut stream = self
            .read("list containers", "", |link| async move {
                let request = wire::ListContainersRequest { filters: Vec::new() };
                client!(ContainersClient<Link>, link).list_stream(request).await
            })
            .await?;
        let mut ids = Vec::new();
        while let Some(part) =
            stream.message().await.map_err(|s| BackendError::from_status("list containers", "", &s))?
        {
            ids.extend(part.container.map(|c| c.id));
        }
        Ok(ids)
    }

    /// Deletes the record; one that is gone already is no error.
    pub async fn container_delete(&self, id: &str) -> Result<(), BackendError> {
        let request = wire::DeleteContainerRequest { id: id.to_owned() };
        let done = self
            .change("delete container", id, None, |link| async move {
                client!(ContainersClient<Link>, link).delete(request).await
            })
            .await;
        match done {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    fn to_wire(&self, record: &ContainerRecord) -> wire::Container {
        wire::Container {
            id: record.id.clone(),
            labels: convert::wire_labels(&record.labels),
            image: record.image.clone(),
            runtime: Some(wire::container::Runtime {
                name: record.runtime.clone(),
                options: Some(record.options.to_any()),
            }),
            spec: Some(prost_types::Any {
                type_url: type_url::OCI_SPEC.to_owned(),
                value: record.spec.clone(),
            }),
            snapshotter: self.snapshotter().to_owned(),
            snapshot_key: record.snapshot_key.clone(),
            ..Default::default()
        }
    }
}

fn from_wire(container: wire::Container) -> ContainerRecord {
    let runtime = container.runtime.unwrap_or_default();
    let options = runtime
        .options
        .and_then(|any| <Options as prost::Message>::decode(any.value.as_slice()).ok())
        .unwrap_or_default();
    ContainerRecord {
        id: container.id,
        labels: convert::labels(container.labels),
        image: container.image,
        runtime: runtime.name,
        options: RuntimeOptions {
            binary_name: options.binary_name,
            root: options.root,
            systemd_cgroup: options.systemd_cgroup,
        },
        spec: container.spec.map(|any| any.value).unwrap_or_default(),
        snapshot_key: container.snapshot_key,
        created_at: convert::time(container.created_at),
    }
}
