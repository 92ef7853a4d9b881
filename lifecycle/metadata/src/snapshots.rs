//! Records of snapshots. Their directories are the snapshotter's affair.

use std::collections::BTreeSet;
use std::time::SystemTime;

use wharf_store::{Read, Write};
use wharf_vocab::{Filter, Labels, label_field, label_names};

use crate::error::{MetadataError, Subject};
use crate::fields::{settle_labels, update_labels};
use crate::leases::{self, snapshots_kind};
use crate::outbox::Change;
use crate::records::{SnapshotInfo, SnapshotKind, SnapshotRecord, Usage};
use crate::tables::{CHILDREN, SEQUENCES, SNAPSHOTS};
use crate::{Metadata, Scope, namespaces};

/// Bytes that the key of a snapshot may have.
const MAX_KEY: usize = 1024;

pub struct SnapshotRecords<'a>(pub(crate) &'a Metadata);

/// A snapshot whose directory is in place and that is about to be recorded.
#[derive(Debug, Clone)]
pub struct NewSnapshot<'a> {
    pub key: &'a str,
    /// Empty for none.
    pub parent: &'a str,
    pub kind: SnapshotKind,
    pub labels: Labels,
    pub id: u64,
}

/// An active snapshot about to become a layer.
#[derive(Debug, Clone)]
pub struct Commit<'a> {
    pub name: &'a str,
    pub key: &'a str,
    /// A parent for a snapshot that was prepared without one; empty for none.
    pub parent: &'a str,
    pub labels: Labels,
}

impl SnapshotRecords<'_> {
    pub fn get(&self, scope: &Scope, snapshotter: &str, key: &str) -> Result<SnapshotInfo, MetadataError> {
        let record = record(&self.0.db.view()?, scope, snapshotter, key)?;
        Ok(SnapshotInfo { name: key.into(), record })
    }

    /// In order of names. Fields for filters: `kind`, `name`, `parent`, `labels`.
    pub fn list(
        &self,
        scope: &Scope,
        snapshotter: &str,
        filters: &[String],
    ) -> Result<Vec<SnapshotInfo>, MetadataError> {
        let filter = Filter::parse_all(filters)?;
        let all = SNAPSHOTS.list(&self.0.db.view()?, &[&scope.namespace, snapshotter])?;
        let infos =
            all.into_iter().map(|(mut key, record)| SnapshotInfo { name: key.swap_remove(2), record });
        Ok(infos.filter(|info| matches(&filter, info)).collect())
    }

    /// The directories of a snapshot's ancestors, the nearest first.
    pub fn ancestors(&self, scope: &Scope, snapshotter: &str, key: &str) -> Result<Vec<u64>, MetadataError> {
        let view = self.0.db.view()?;
        let parent = record(&view, scope, snapshotter, key)?.parent;
        chain(&view, scope, snapshotter, &parent)
    }

    /// What a new snapshot on this parent would stand on, the nearest first. It refuses what
    /// [`SnapshotRecords::create`] would refuse, but cheaply: an existing key or target gets the scope's lease
    /// and AlreadyExists.
    pub fn plan(
        &self,
        scope: &Scope,
        snapshotter: &str,
        new: &NewSnapshot<'_>,
    ) -> Result<Vec<u64>, MetadataError> {
        check_key(new.key)?;
        let mut labels = new.labels.clone();
        settle_labels(&mut labels, "info.Labels")?;
        let view = self.0.db.view()?;
        if let Some(existing) = conflict(&view, scope, snapshotter, new)? {
            self.0
                .db
                .write(|tx| leases::attach(tx, scope, &snapshots_kind(snapshotter), key_of(&existing)))?;
            return Err(MetadataError::AlreadyExists(existing));
        }
        if !new.parent.is_empty() {
            committed_parent(&view, scope, snapshotter, new.parent)?;
        }
        chain(&view, scope, snapshotter, new.parent)
    }

    /// Records a snapshot and hands it to the scope's lease.
    pub fn create(
        &self,
        scope: &Scope,
        snapshotter: &str,
        new: NewSnapshot<'_>,
    ) -> Result<SnapshotRecord, MetadataError> {
        check_key(new.key)?;
        let mut labels = new.labels.clone();
        settle_labels(&mut labels, "info.Labels")?;
        let created = self.0.change(|tx| {
            if let Some(existing) = conflict(tx, scope, snapshotter, &new)? {
                leases::attach(tx, scope, &snapshots_kind(snapshotter), key_of(&existing))?;
                return Ok::<_, MetadataError>(Err(existing));
            }
            namespaces::ensure(tx, &scope.namespace)?;
            leases::attach(tx, scope, &snapshots_kind(snapshotter), new.key)?;
            if !new.parent.is_empty() {
                committed_parent(tx, scope, snapshotter, new.parent)?;
                CHILDREN.put(tx, &[&scope.namespace, snapshotter, new.parent, new.key], &())?;
            }
            let now = SystemTime::now();
            let record = SnapshotRecord {
                id: new.id,
                kind: new.kind,
                parent: new.parent.into(),
                labels,
                created: now,
                updated: now,
                usage: None,
            };
            SNAPSHOTS.put(tx, &[&scope.namespace, snapshotter, new.key], &record)?;
            // so that a later start begins its numbers above every one ever recorded
            let highest = SEQUENCES.get(tx, &["snapshot"])?.unwrap_or(0).max(new.id);
            SEQUENCES.put(tx, &["snapshot"], &highest)?;
            if new.kind == SnapshotKind::Active {
                let (snapshotter, key, parent) = (snapshotter.into(), new.key.into(), new.parent.into());
                self.0.announce(
                    tx,
                    &scope.namespace,
                    Change::SnapshotPrepared { snapshotter, key, parent },
                )?;
            }
            Ok(Ok(record))
        })?;
        created.map_err(MetadataError::AlreadyExists)
    }

    /// Turns an active snapshot into a committed one under another name.
    pub fn commit(&self, scope: &Scope, snapshotter: &str, commit: Commit<'_>) -> Result<(), MetadataError> {
        check_key(commit.name)?;
        let mut labels = commit.labels.clone();
        settle_labels(&mut labels, "info.Labels")?;
        let key_of = |name| [scope.namespace.as_str(), snapshotter, name];
        let committed = self.0.change(|tx| {
            leases::attach(tx, scope, &snapshots_kind(snapshotter), commit.name)?;
            if SNAPSHOTS.contains(tx, &key_of(commit.name))? {
                return Ok::<_, MetadataError>(false);
            }
            let mut record = record(tx, scope, snapshotter, commit.key)?;
            if record.kind != SnapshotKind::Active {
                return Err(MetadataError::Precondition(format!("snapshot {:?} is not active", commit.key)));
            }
            if !commit.parent.is_empty() && record.parent != commit.parent {
                if !record.parent.is_empty() {
                    let text = format!("cannot change parent of active snapshot {:?} on commit", commit.key);
                    return Err(MetadataError::Invalid(text));
                }
                committed_parent(tx, scope, snapshotter, commit.parent)?;
                record.parent = commit.parent.into();
            }
            if !record.parent.is_empty() {
                CHILDREN.remove(tx, &[&scope.namespace, snapshotter, &record.parent, commit.key])?;
                CHILDREN.put(tx, &[&scope.namespace, snapshotter, &record.parent, commit.name], &())?;
            }
            let now = SystemTime::now();
            (record.kind, record.labels) = (SnapshotKind::Committed, labels);
            (record.created, record.updated) = (now, now);
            SNAPSHOTS.remove(tx, &key_of(commit.key))?;
            SNAPSHOTS.put(tx, &key_of(commit.name), &record)?;
            leases::detach(tx, scope, &snapshots_kind(snapshotter), commit.key)?;
            let (snapshotter, key, name) = (snapshotter.into(), commit.key.into(), commit.name.into());
            self.0.announce(tx, &scope.namespace, Change::SnapshotCommitted { snapshotter, key, name })?;
            Ok(true)
        })?;
        if committed {
            Ok(())
        } else {
            Err(MetadataError::AlreadyExists(Subject::Snapshot(commit.name.into())))
        }
    }

    /// Removes the record, if no other snapshot stands on it.
    pub fn remove(
        &self,
        scope: &Scope,
        snapshotter: &str,
        key: &str,
    ) -> Result<SnapshotRecord, MetadataError> {
        let removed = self.0.change(|tx| {
            let record = record(tx, scope, snapshotter, key)?;
            if CHILDREN.any(tx, &[&scope.namespace, snapshotter, key])? {
                return Err(MetadataError::Precondition("cannot remove snapshot with child".into()));
            }
            erase(tx, &scope.namespace, snapshotter, key, &record)?;
            leases::detach(tx, scope, &snapshots_kind(snapshotter), key)?;
            let change = Change::SnapshotRemoved { snapshotter: snapshotter.into(), key: key.into() };
            self.0.announce(tx, &scope.namespace, change)?;
            Ok(record)
        })?;
        self.0.dirty.deleted();
        Ok(removed)
    }

    /// Paths: `labels`, `labels.k`. An empty mask replaces the labels.
    pub fn update(
        &self,
        scope: &Scope,
        snapshotter: &str,
        key: &str,
        labels: &Labels,
        mask: &[String],
    ) -> Result<SnapshotInfo, MetadataError> {
        self.0.change(|tx| {
            let mut record = record(tx, scope, snapshotter, key)?;
            update_labels(&mut record.labels, labels, mask, || format!("snapshot {key:?}"))?;
            settle_labels(&mut record.labels, "info.Labels")?;
            record.updated = SystemTime::now();
            SNAPSHOTS.put(tx, &[&scope.namespace, snapshotter, key], &record)?;
            Ok(SnapshotInfo { name: key.into(), record })
        })
    }

    /// Remembers what a committed snapshot takes on disk.
    pub fn set_usage(
        &self,
        scope: &Scope,
        snapshotter: &str,
        key: &str,
        usage: Usage,
    ) -> Result<(), MetadataError> {
        self.0.change(|tx| {
            let mut record = record(tx, scope, snapshotter, key)?;
            record.usage = Some(usage);
            Ok(SNAPSHOTS.put(tx, &[&scope.namespace, snapshotter, key], &record)?)
        })
    }

    /// The directories that some snapshot has, and the highest number ever recorded.
    pub fn in_use(&self, snapshotter: &str) -> Result<(BTreeSet<u64>, u64), MetadataError> {
        // a write for the reason that content's in_use gives
        self.0.settle(|tx| {
            let all = SNAPSHOTS.list(tx, &[])?;
            let ids = all
                .into_iter()
                .filter(|(key, _)| key[1] == snapshotter)
                .map(|(_, record)| record.id)
                .collect();
            Ok((ids, SEQUENCES.get(tx, &["snapshot"])?.unwrap_or(0)))
        })
    }
}

/// Removes a record and its place among its parent's children.
pub(crate) fn erase(
    tx: &Write,
    namespace: &str,
    snapshotter: &str,
    key: &str,
    record: &SnapshotRecord,
) -> Result<(), MetadataError> {
    if !record.parent.is_empty() {
        CHILDREN.remove(tx, &[namespace, snapshotter, &record.parent, key])?;
    }
    SNAPSHOTS.remove(tx, &[namespace, snapshotter, key])?;
    Ok(())
}

/// What stands in the way of a new snapshot: its key, or the layer it is meant to become.
fn conflict(
    from: &impl Read,
    scope: &Scope,
    snapshotter: &str,
    new: &NewSnapshot<'_>,
) -> Result<Option<Subject>, MetadataError> {
    if let Some(target) = new.labels.get(label_names::SNAPSHOT_REF)
        && SNAPSHOTS.contains(from, &[&scope.namespace, snapshotter, target])?
    {
        return Ok(Some(Subject::TargetSnapshot(target.clone())));
    }
    let taken = SNAPSHOTS.contains(from, &[&scope.namespace, snapshotter, new.key])?;
    Ok(taken.then(|| Subject::Snapshot(new.key.into())))
}

fn key_of(subject: &Subject) -> &str {
    match subject {
        Subject::TargetSnapshot(key) | Subject::Snapshot(key) => key,
        _ => "",
    }
}

fn check_key(key: &str) -> Result<(), MetadataError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(MetadataError::Invalid(format!("snapshot key must have between 1 and {MAX_KEY} bytes")));
    }
    Ok(())
}

fn record(
    from: &impl Read,
    scope: &Scope,
    snapshotter: &str,
    key: &str,
) -> Result<SnapshotRecord, MetadataError> {
    SNAPSHOTS
        .get(from, &[&scope.namespace, snapshotter, key])?
        .ok_or_else(|| MetadataError::NotFound(Subject::MissingSnapshot(key.into())))
}

fn committed_parent(
    from: &impl Read,
    scope: &Scope,
    snapshotter: &str,
    parent: &str,
) -> Result<SnapshotRecord, MetadataError> {
    let record = SNAPSHOTS
        .get(from, &[&scope.namespace, snapshotter, parent])?
        .ok_or_else(|| MetadataError::NotFound(Subject::MissingParent(parent.into())))?;
    if record.kind != SnapshotKind::Committed {
        return Err(MetadataError::Invalid(format!("parent {parent:?} is not committed snapshot")));
    }
    Ok(record)
}

fn chain(
    from: &impl Read,
    scope: &Scope,
    snapshotter: &str,
    parent: &str,
) -> Result<Vec<u64>, MetadataError> {
    let mut ids = Vec::new();
    let mut next = parent.to_owned();
    while !next.is_empty() {
        let record = committed_parent(from, scope, snapshotter, &next)?;
        ids.push(record.id);
        next = record.parent;
    }
    Ok(ids)
}

fn matches(filter: &Filter, info: &SnapshotInfo) -> bool {
    filter.matches(|path| match path {
        ["kind", ..] => Some(info.record.kind.as_str().into()),
        ["name", ..] => Some(info.name.clone().into()),
        ["parent", ..] => Some(info.record.parent.clone().into()),
        ["labels", key @ ..] => label_field(key, &info.record.labels).map(|v| v.to_owned().into()),
        _ => None,
    })
}
