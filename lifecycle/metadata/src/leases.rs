//! Leases: what keeps things alive while nothing refers to them yet.

use std::time::SystemTime;

use wharf_store::Write;
use wharf_vocab::{Digest, Filter, Labels, label_field};

use crate::collector::expiry;
use crate::error::{MetadataError, Subject};
use crate::fields::settle_labels;
use crate::records::{Lease, Resource};
use crate::tables::{LEASED, LEASES};
use crate::{Metadata, Scope, namespaces};

pub(crate) const CONTENT_KIND: &str = "content";
pub(crate) const INGESTS_KIND: &str = "ingests";
pub(crate) const IMAGES_KIND: &str = "images";
pub(crate) const SNAPSHOTS_KIND: &str = "snapshots";

/// Bytes that a lease's name may have; it becomes part of keys.
const MAX_ID: usize = 1024;

pub struct Leases<'a>(pub(crate) &'a Metadata);

/// The kind under which a lease keeps snapshots of one snapshotter.
pub(crate) fn snapshots_kind(snapshotter: &str) -> String {
    format!("{SNAPSHOTS_KIND}/{snapshotter}")
}

/// Lets the scope's lease, if it has one, keep the resource. Whether it has one.
pub(crate) fn attach(tx: &Write, scope: &Scope, kind: &str, id: &str) -> Result<bool, MetadataError> {
    let Some(lease) = &scope.lease else { return Ok(false) };
    if !LEASES.contains(tx, &[&scope.namespace, lease])? {
        return Err(MetadataError::NotFound(Subject::RequestLease));
    }
    LEASED.put(tx, &[&scope.namespace, lease, kind, id], &())?;
    Ok(true)
}

/// The scope's lease keeps the resource no longer.
pub(crate) fn detach(tx: &Write, scope: &Scope, kind: &str, id: &str) -> Result<(), MetadataError> {
    if let Some(lease) = &scope.lease {
        LEASED.remove(tx, &[&scope.namespace, lease, kind, id])?;
    }
    Ok(())
}

impl Leases<'_> {
    pub fn create(&self, scope: &Scope, id: &str, mut labels: Labels) -> Result<Lease, MetadataError> {
        if id.is_empty() || id.len() > MAX_ID {
            let text = format!("lease id must have between 1 and {MAX_ID} bytes");
            return Err(MetadataError::Invalid(text));
        }
        settle_labels(&mut labels, "lease.Labels")?;
        let expires = expiry(&labels);
        let lease = self.0.change_ahead(|tx| {
            if LEASES.contains(tx, &[&scope.namespace, id])? {
                return Err(MetadataError::AlreadyExists(Subject::Lease(id.into())));
            }
            namespaces::ensure(tx, &scope.namespace)?;
            let lease = Lease { id: id.into(), labels, created: SystemTime::now() };
            LEASES.put(tx, &[&scope.namespace, id], &lease)?;
            Ok(lease)
        })?;
        self.0.dirty.expires(expires);
        Ok(lease)
    }

    pub fn delete(&self, scope: &Scope, id: &str) -> Result<(), MetadataError> {
        self.0.change_ahead(|tx| {
            if !erase(tx, &scope.namespace, id)? {
                return Err(not_found(id));
            }
            Ok(())
        })?;
        self.0.dirty.deleted();
        Ok(())
    }

    pub fn list(&self, scope: &Scope, filters: &[String]) -> Result<Vec<Lease>, MetadataError> {
        let filter = Filter::parse_all(filters)?;
        let all = LEASES.list(&self.0.db.view()?, &[&scope.namespace])?;
        let matches = |lease: &Lease| {
            filter.matches(|path| match path {
                ["id", ..] => Some(lease.id.clone().into()),
                ["labels", key @ ..] => label_field(key, &lease.labels).map(|v| v.to_owned().into()),
                _ => None,
            })
        };
        Ok(all.into_iter().map(|(_, lease)| lease).filter(matches).collect())
    }

    /// The resource need not exist yet.
    pub fn add_resource(&self, scope: &Scope, lease: &str, resource: &Resource) -> Result<(), MetadataError> {
        self.0.change(|tx| {
            if !LEASES.contains(tx, &[&scope.namespace, lease])? {
                return Err(not_found(lease));
            }
            validate(resource)?;
            LEASED.put(tx, &[&scope.namespace, lease, &resource.kind, &resource.id], &())?;
            Ok(())
        })
    }

    pub fn delete_resource(
        &self,
        scope: &Scope,
        lease: &str,
        resource: &Resource,
    ) -> Result<(), MetadataError> {
        self.0.change(|tx| {
            if !LEASES.contains(tx, &[&scope.namespace, lease])? {
                return Err(not_found(lease));
            }
            validate(resource)?;
            LEASED.remove(tx, &[&scope.namespace, lease, &resource.kind, &resource.id])?;
            Ok(())
        })?;
        self.0.dirty.deleted();
        Ok(())
    }

    pub fn resources(&self, scope: &Scope, lease: &str) -> Result<Vec<Resource>, MetadataError> {
        let view = self.0.db.view()?;
        if !LEASES.contains(&view, &[&scope.namespace, lease])? {
            return Err(not_found(lease));
        }
        let keys = LEASED.keys(&view, &[&scope.namespace, lease])?;
        Ok(keys
            .into_iter()
            .map(|mut key| Resource { id: key.swap_remove(3), kind: key.swap_remove(2) })
            .collect())
    }
}

/// Removes a lease and what it keeps. Whether there was one.
pub(crate) fn erase(tx: &Write, namespace: &str, id: &str) -> Result<bool, MetadataError> {
    LEASED.remove_all(tx, &[namespace, id])?;
    Ok(LEASES.remove(tx, &[namespace, id])?)
}

fn not_found(id: &str) -> MetadataError {
    MetadataError::NotFound(Subject::Lease(id.into()))
}

fn validate(resource: &Resource) -> Result<(), MetadataError> {
    let Resource { kind, id } = resource;
    let parts: Vec<&str> = kind.split('/').collect();
    match parts.as_slice() {
        [CONTENT_KIND] => match Digest::parse(id) {
            Ok(_) => Ok(()),
            Err(e) => Err(MetadataError::Invalid(format!("invalid content resource id {id}: {e}"))),
        },
        // as everywhere in containerd, a name is not empty
        [INGESTS_KIND | IMAGES_KIND | SNAPSHOTS_KIND, ..] if id.is_empty() => {
            Err(MetadataError::Invalid(format!("resource of type {kind}: id required")))
        }
        [INGESTS_KIND | IMAGES_KIND] => Ok(()),
        [SNAPSHOTS_KIND, snapshotter] if !snapshotter.is_empty() => Ok(()),
        [SNAPSHOTS_KIND, ..] => Err(MetadataError::Invalid(format!("invalid snapshot resource type {kind}"))),
        [CONTENT_KIND | INGESTS_KIND | IMAGES_KIND, ..] => {
            Err(MetadataError::Invalid(format!("invalid resource type {kind}")))
        }
        _ => Err(MetadataError::Unimplemented(format!("resource type {kind} not supported yet"))),
    }
}
