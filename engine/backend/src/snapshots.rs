//! Snapshots: unpacked layers and writable layers.

use std::time::SystemTime;

use wharf_containerd::containerd::services::snapshots::v1 as wire;
use wire::snapshots_client::SnapshotsClient;

use crate::convert;
use crate::error::BackendError;
use crate::images::mask;
use crate::leases::Lease;
use crate::link::{Backend, Link, client};
use crate::types::{Labels, Mount};

/// What a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// Read-only, not a parent.
    View,
    /// Writable.
    Active,
    /// Immutable; may be a parent.
    Committed,
}

/// A snapshot's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    pub name: String,
    /// Empty for none.
    pub parent: String,
    pub kind: SnapshotKind,
    pub labels: Labels,
    pub created_at: SystemTime,
}

/// What a snapshot occupies, parents not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotUsage {
    /// Bytes on disk.
    pub size: u64,
    pub inodes: u64,
}

impl Backend {
    /// Makes a writable snapshot on a committed parent (empty: none) and returns how to mount it.
    pub async fn snapshot_prepare(
        &self,
        lease: &Lease,
        key: &str,
        parent: &str,
        labels: &Labels,
    ) -> Result<Vec<Mount>, BackendError> {
        let request = wire::PrepareSnapshotRequest {
            snapshotter: self.snapshotter().to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: convert::wire_labels(labels),
        };
        let answer = self
            .change("prepare snapshot", key, Some(lease), |link| async move {
                client!(SnapshotsClient<Link>, link).prepare(request).await
            })
            .await?;
        Ok(convert::mounts(answer.mounts))
    }

    /// Makes a read-only snapshot of a committed parent.
    pub async fn snapshot_view(
        &self,
        lease: &Lease,
        key: &str,
        parent: &str,
        labels: &Labels,
    ) -> Result<Vec<Mount>, BackendError> {
        let request = wire::ViewSnapshotRequest {
            snapshotter: self.snapshotter().to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: convert::wire_labels(labels),
        };
        let answer = self
            .change("view snapshot", key, Some(lease), |link| async move {
                client!(SnapshotsClient<Link>, link).view(request).await
            })
            .await?;
        Ok(convert::mounts(answer.mounts))
    }

    /// How to mount an active or view snapshot.
    pub async fn snapshot_mounts(&self, key: &str) -> Result<Vec<Mount>, BackendError> {
        let answer = self
            .read("mount snapshot", key, |link| async move {
                let request =
                    wire::MountsRequest { snapshotter: self.snapshotter().to_owned(), key: key.to_owned() };
                client!(SnapshotsClient<Link>, link).mounts(request).await
            })
            .await?;
        Ok(convert::mounts(answer.mounts))
    }

    /// Turns the active snapshot `key` into the committed `name`.
    pub async fn snapshot_commit(
        &self,
        lease: &Lease,
        name: &str,
        key: &str,
        labels: &Labels,
    ) -> Result<(), BackendError> {
        let request = wire::CommitSnapshotRequest {
            snapshotter: self.snapshotter().to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: convert::wire_labels(labels),
            parent: String::new(),
        };
        self.change("commit snapshot", name, Some(lease), |link| async move {
            client!(SnapshotsClient<Link>, link).commit(request).await
        })
        .await
    }

    /// The record of one snapshot.
    pub async fn snapshot_stat(&self, key: &str) -> Result<SnapshotInfo, BackendError> {
        let answer = self
            .read("stat snapshot", key, |link| async move {
                let request = wire::StatSnapshotRequest {
                    snapshotter: self.snapshotter().to_owned(),
                    key: key.to_owned(),
                };
                client!(SnapshotsClient<Link>, link).stat(request).await
            })
            .await?;
        Ok(from_wire(answer.info.unwrap_or_default()))
    }

    /// Every snapshot that one of the filters matches; all without filters.
    pub async fn snapshot_list(&self, filters: &[String]) -> Result<Vec<SnapshotInfo>, BackendError> {
        let mut stream = self
            .read("list snapshots", "", |link| async move {
                let request = wire::ListSnapshotsRequest {
                    snapshotter: self.snapshotter().to_owned(),
                    filters: filters.to_vec(),
                };
                client!(SnapshotsClient<Link>, link).list(request).await
            })
            .await?;
        let mut all = Vec::new();
        while let Some(part) =
            stream.message().await.map_err(|s| BackendError::from_status("list snapshots", "", &s))?
        {
            all.extend(part.info.into_iter().map(from_wire));
        }
        Ok(all)
    }

    /// What one snapshot occupies.
    pub async fn snapshot_usage(&self, key: &str) -> Result<SnapshotUsage, BackendError> {
        let answer = self
            .read("measure snapshot", key, |link| async move {
                let request =
                    wire::UsageRequest { snapshotter: self.snapshotter().to_owned(), key: key.to_owned() };
                client!(SnapshotsClient<Link>, link).usage(request).await
            })
            .await?;
        Ok(SnapshotUsage {
            size: u64::try_from(answer.size).unwrap_or(0),
            inodes: u64::try_from(answer.inodes).unwrap_or(0),
        })
    }

    /// Replaces labels (fields such as `labels.<key>`; none: all labels).
    pub async fn snapshot_update(
        &self,
        name: &str,
        labels: &Labels,
        fields: &[&str],
    ) -> Result<SnapshotInfo, BackendError> {
        let info =
            wire::Info { name: name.to_owned(), labels: convert::wire_labels(labels), ..Default::default() };
        let request = wire::UpdateSnapshotRequest {
            snapshotter: self.snapshotter().to_owned(),
            info: Some(info),
            update_mask: mask(fields),
        };
        let answer = self
            .change("update snapshot", name, None, |link| async move {
                client!(SnapshotsClient<Link>, link).update(request).await
            })
            .await?;
        Ok(from_wire(answer.info.unwrap_or_default()))
    }

    /// Removes a snapshot without children; one that is gone already is no error.
    pub async fn snapshot_remove(&self, key: &str) -> Result<(), BackendError> {
        let request =
            wire::RemoveSnapshotRequest { snapshotter: self.snapshotter().to_owned(), key: key.to_owned() };
        let done = self
            .change("remove snapshot", key, None, |link| async move {
                client!(SnapshotsClient<Link>, link).remove(request).await
            })
            .await;
        match done {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}

fn from_wire(info: wire::Info) -> SnapshotInfo {
    let kind = match info.kind() {
        wire::Kind::Active => SnapshotKind::Active,
        wire::Kind::Committed => SnapshotKind::Committed,
        wire::Kind::View | wire::Kind::Unknown => SnapshotKind::View,
    };
    SnapshotInfo {
        name: info.name,
        parent: info.parent,
        kind,
        labels: convert::labels(info.labels),
        created_at: convert::time(info.created_at),
    }
}
