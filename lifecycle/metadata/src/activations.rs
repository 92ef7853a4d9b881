//! Records of activated mounts. The mounts themselves are the mount manager's affair.
//!
//! A record is made before the first mount and finished after the last, so whatever is mounted has a record, and a
//! record that is not finished when the daemon starts is what a crash left.

use std::time::SystemTime;

use wharf_store::{Read, Write};
use wharf_vocab::{Filter, Labels, label_field};

use crate::error::{MetadataError, Subject};
use crate::fields::{settle_labels, update_labels};
use crate::records::{Activation, ActiveMount, MountSpec};
use crate::tables::{ACTIVATIONS, LEASES, SEQUENCES};
use crate::{Metadata, Scope, namespaces};

/// Bytes that the name of an activation may have.
const MAX_NAME: usize = 1024;

pub struct Activations<'a>(pub(crate) &'a Metadata);

impl Activations<'_> {
    /// Records what is about to be mounted, under the scope's lease, and gives it a number that is never used again.
    ///
    /// AlreadyExists for an activation of that name, finished or under way.
    pub fn begin(&self, scope: &Scope, name: &str, mut labels: Labels) -> Result<u64, MetadataError> {
        if name.is_empty() || name.len() > MAX_NAME {
            let text = format!("the name of an activation must have between 1 and {MAX_NAME} bytes");
            return Err(MetadataError::Invalid(text));
        }
        settle_labels(&mut labels, "info.Labels")?;
        self.0.change(|tx| {
            if ACTIVATIONS.contains(tx, &[&scope.namespace, name])? {
                return Err(MetadataError::AlreadyExists(Subject::Mount(name.into())));
            }
            if let Some(lease) = &scope.lease
                && !LEASES.contains(tx, &[&scope.namespace, lease])?
            {
                return Err(MetadataError::NotFound(Subject::RequestLease));
            }
            namespaces::ensure(tx, &scope.namespace)?;
            let id = SEQUENCES.get(tx, &["mount"])?.unwrap_or(0) + 1;
            SEQUENCES.put(tx, &["mount"], &id)?;
            let now = SystemTime::now();
            let record = Activation {
                id,
                lease: scope.lease.clone(),
                labels,
                created: now,
                updated: now,
                is_finished: false,
                active: Vec::new(),
                system: Vec::new(),
            };
            ACTIVATIONS.put(tx, &[&scope.namespace, name], &record)?;
            Ok(id)
        })
    }

    /// Records what was mounted, and what is left to the caller.
    pub fn finish(
        &self,
        scope: &Scope,
        name: &str,
        active: Vec<ActiveMount>,
        system: Vec<MountSpec>,
    ) -> Result<Activation, MetadataError> {
        self.0.change(|tx| {
            let mut record = activation(tx, scope, name)?;
            (record.active, record.system, record.is_finished) = (active, system, true);
            record.updated = SystemTime::now();
            ACTIVATIONS.put(tx, &[&scope.namespace, name], &record)?;
            Ok(record)
        })
    }

    pub fn get(&self, scope: &Scope, name: &str) -> Result<Activation, MetadataError> {
        activation(&self.0.db.view()?, scope, name)
    }

    /// In order of names. Fields for filters: `name`, `labels`.
    pub fn list(
        &self,
        scope: &Scope,
        filters: &[String],
    ) -> Result<Vec<(String, Activation)>, MetadataError> {
        let filter = Filter::parse_all(filters)?;
        let all = ACTIVATIONS.list(&self.0.db.view()?, &[&scope.namespace])?;
        let named = all.into_iter().map(|(mut key, record)| (key.swap_remove(1), record));
        Ok(named
            .filter(|(name, record)| {
                filter.matches(|path| match path {
                    ["name", ..] => Some(name.clone().into()),
                    ["labels", key @ ..] => label_field(key, &record.labels).map(|v| v.to_owned().into()),
                    _ => None,
                })
            })
            .collect())
    }

    /// Paths: `labels`, `labels.k`. An empty mask replaces the labels.
    pub fn update(
        &self,
        scope: &Scope,
        name: &str,
        labels: &Labels,
        mask: &[String],
    ) -> Result<Activation, MetadataError> {
        let updated = self.0.change(|tx| {
            let mut record = activation(tx, scope, name)?;
            update_labels(&mut record.labels, labels, mask, || format!("mount {name:?}"))?;
            settle_labels(&mut record.labels, "info.Labels")?;
            record.updated = SystemTime::now();
            ACTIVATIONS.put(tx, &[&scope.namespace, name], &record)?;
            Ok::<_, MetadataError>(record)
        })?;
        // what kept it may be gone from the labels
        self.0.dirty.deleted();
        Ok(updated)
    }

    /// Forgets it. What it mounted is to be unmounted afterwards.
    pub fn remove(&self, scope: &Scope, name: &str) -> Result<Activation, MetadataError> {
        self.0.change(|tx| {
            let record = activation(tx, scope, name)?;
            ACTIVATIONS.remove(tx, &[&scope.namespace, name])?;
            Ok(record)
        })
    }

    /// Forgets those of all namespaces that are not worth keeping: at a start, what a crash or the end of the
    /// machine's last run made untrue.
    pub fn retain(&self, keep: impl Fn(&Activation) -> bool) -> Result<usize, MetadataError> {
        self.0.change(|tx| {
            let mut removed = 0;
            for (key, record) in ACTIVATIONS.list(tx, &[])? {
                if !keep(&record) {
                    ACTIVATIONS.remove(tx, &[&key[0], &key[1]])?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
    }

    /// The numbers that have a record. A write, as [`crate::ContentRecords::in_use`] is.
    pub fn in_use(&self) -> Result<std::collections::BTreeSet<u64>, MetadataError> {
        self.0.settle(|tx| Ok(ACTIVATIONS.list(tx, &[])?.into_iter().map(|(_, record)| record.id).collect()))
    }
}

fn activation(from: &impl Read, scope: &Scope, name: &str) -> Result<Activation, MetadataError> {
    ACTIVATIONS
        .get(from, &[&scope.namespace, name])?
        .ok_or_else(|| MetadataError::NotFound(Subject::Mount(name.into())))
}

/// For the collector.
pub(crate) fn erase(tx: &Write, namespace: &str, name: &str) -> Result<(), MetadataError> {
    ACTIVATIONS.remove(tx, &[namespace, name])?;
    Ok(())
}
