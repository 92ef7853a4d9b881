//! Namespaces. One comes to be when something is created in it, or when it is asked for.

use wharf_store::Write;
use wharf_vocab::{Identifier, Labels};

use crate::error::{MetadataError, Subject};
use crate::fields::settle_labels;
use crate::outbox::Change;
use crate::records::Namespace;
use crate::tables::{BLOBS, CONTAINERS, IMAGES, LEASED, LEASES, NAMESPACES, SANDBOXES, SNAPSHOTS};
use crate::{Metadata, fields};

pub struct Namespaces<'a>(pub(crate) &'a Metadata);

/// Records the namespace if it is not there yet.
pub(crate) fn ensure(tx: &Write, namespace: &str) -> Result<(), MetadataError> {
    if !NAMESPACES.contains(tx, &[namespace])? {
        NAMESPACES.put(tx, &[namespace], &Labels::new())?;
    }
    Ok(())
}

impl Namespaces<'_> {
    pub fn create(&self, name: &str, labels: Labels) -> Result<Namespace, MetadataError> {
        Identifier::parse(name).map_err(|source| MetadataError::Identifier { field: None, source })?;
        let mut stored = labels.clone();
        settle_labels(&mut stored, "namespace.Labels")?;
        self.0.change(|tx| {
            if NAMESPACES.contains(tx, &[name])? {
                return Err(MetadataError::AlreadyExists(Subject::Namespace(name.into())));
            }
            NAMESPACES.put(tx, &[name], &stored)?;
            self.0.announce(tx, name, Change::NamespaceCreated { labels: labels.clone() })?;
            Ok(Namespace { name: name.into(), labels })
        })
    }

    /// A namespace that is not there has no labels: containerd does not refuse it.
    pub fn get(&self, name: &str) -> Result<Namespace, MetadataError> {
        let labels = NAMESPACES.get(&self.0.db.view()?, &[name])?.unwrap_or_default();
        Ok(Namespace { name: name.into(), labels })
    }

    pub fn list(&self) -> Result<Vec<Namespace>, MetadataError> {
        let all = NAMESPACES.list(&self.0.db.view()?, &[])?;
        Ok(all
            .into_iter()
            .map(|(mut key, labels)| Namespace { name: std::mem::take(&mut key[0]), labels })
            .collect())
    }

    /// An empty mask replaces all labels; `labels.k` sets one, an empty value removes it.
    pub fn update(&self, wanted: &Namespace, mask: &[String]) -> Result<Namespace, MetadataError> {
        Identifier::parse(&wanted.name)
            .map_err(|source| MetadataError::Identifier { field: None, source })?;
        self.0.change(|tx| {
            let mut labels = NAMESPACES.get(tx, &[&wanted.name])?.unwrap_or_default();
            fields::update_labels(&mut labels, &wanted.labels, mask, || {
                format!("namespace {:?}", wanted.name)
            })?;
            settle_labels(&mut labels, "namespace.Labels")?;
            NAMESPACES.put(tx, &[&wanted.name], &labels)?;
            self.0.announce(tx, &wanted.name, Change::NamespaceUpdated { labels: labels.clone() })?;
            Ok(Namespace { name: wanted.name.clone(), labels })
        })
    }

    /// Only an empty namespace goes away.
    pub fn delete(&self, name: &str) -> Result<(), MetadataError> {
        self.0.change(|tx| {
            let mut left = Vec::new();
            for (has, what) in [
                (IMAGES.any(tx, &[name])?, "images"),
                (BLOBS.any(tx, &[name])?, "blobs"),
                (CONTAINERS.any(tx, &[name])?, "containers"),
                (SANDBOXES.any(tx, &[name])?, "sandboxes"),
            ] {
                if has {
                    left.push(what.to_owned());
                }
            }
            let mut snapshotters: Vec<_> =
                SNAPSHOTS.keys(tx, &[name])?.into_iter().map(|mut key| key.swap_remove(1)).collect();
            snapshotters.dedup();
            left.extend(snapshotters.iter().map(|s| format!("snapshots on {s:?} snapshotter")));
            if !left.is_empty() {
                return Err(MetadataError::Precondition(format!(
                    "namespace {name:?} must be empty, but it still has {}",
                    left.join(", ")
                )));
            }
            if !NAMESPACES.remove(tx, &[name])? {
                return Err(MetadataError::NotFound(Subject::Namespace(name.into())));
            }
            LEASES.remove_all(tx, &[name])?;
            LEASED.remove_all(tx, &[name])?;
            self.0.announce(tx, name, Change::NamespaceDeleted)?;
            Ok(())
        })
    }
}
