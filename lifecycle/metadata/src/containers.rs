//! Containers.

use std::time::SystemTime;

use wharf_vocab::{Filter, Identifier, label_field};

use crate::error::{MetadataError, Subject};
use crate::fields::{apply_to_map, settle_labels};
use crate::outbox::Change;
use crate::records::Container;
use crate::tables::CONTAINERS;
use crate::{Metadata, Scope, namespaces};

pub struct Containers<'a>(pub(crate) &'a Metadata);

impl Containers<'_> {
    pub fn get(&self, scope: &Scope, id: &str) -> Result<Container, MetadataError> {
        CONTAINERS.get(&self.0.db.view()?, &[&scope.namespace, id])?.ok_or_else(|| {
            MetadataError::NotFound(Subject::ContainerIn {
                id: id.into(),
                namespace: scope.namespace.clone(),
            })
        })
    }

    /// In order of ids.
    pub fn list(&self, scope: &Scope, filters: &[String]) -> Result<Vec<Container>, MetadataError> {
        let filter = Filter::parse_all(filters)?;
        let all = CONTAINERS.list(&self.0.db.view()?, &[&scope.namespace])?;
        Ok(all.into_iter().map(|(_, c)| c).filter(|c| matches(&filter, c)).collect())
    }

    /// `created` and `updated` are set here.
    pub fn create(&self, scope: &Scope, mut container: Container) -> Result<Container, MetadataError> {
        validate(&mut container).map_err(|e| prefixed("create container failed validation", e))?;
        self.0.change_ahead(|tx| {
            let key = [scope.namespace.as_str(), &container.id];
            if CONTAINERS.contains(tx, &key)? {
                return Err(MetadataError::AlreadyExists(Subject::Container { id: container.id.clone() }));
            }
            namespaces::ensure(tx, &scope.namespace)?;
            container.created = SystemTime::now();
            container.updated = container.created;
            CONTAINERS.put(tx, &key, &container)?;
            let (id, image) = (container.id.clone(), container.image.clone());
            let change = Change::ContainerCreated { id, image, runtime: container.runtime.clone() };
            self.0.announce(tx, &scope.namespace, change)?;
            Ok(())
        })?;
        Ok(container)
    }

    /// Paths: `labels`, `labels.k`, `spec`, `extensions`, `extensions.k`, `image`, `snapshotkey`. An empty mask
    /// means all of them, and refuses another snapshotter or runtime.
    pub fn update(
        &self,
        scope: &Scope,
        wanted: &Container,
        mask: &[String],
    ) -> Result<Container, MetadataError> {
        if wanted.id.is_empty() {
            return Err(MetadataError::Invalid("must specify a container id".into()));
        }
        self.0.change_ahead(|tx| {
            let key = [scope.namespace.as_str(), &wanted.id];
            let mut container = CONTAINERS
                .get(tx, &key)?
                .ok_or_else(|| MetadataError::NotFound(Subject::Container { id: wanted.id.clone() }))?;
            let all = ["labels", "spec", "extensions", "image", "snapshotkey"].map(String::from);
            let mask = if mask.is_empty() {
                refuse_immutable(&container, wanted)?;
                &all
            } else {
                mask
            };
            for path in mask {
                apply(&mut container, wanted, path)?;
            }
            validate(&mut container).map_err(|e| prefixed("update failed validation", e))?;
            container.updated = SystemTime::now();
            CONTAINERS.put(tx, &key, &container)?;
            let change = Change::ContainerUpdated {
                id: container.id.clone(),
                image: container.image.clone(),
                labels: container.labels.clone(),
                snapshot_key: container.snapshot_key.clone(),
            };
            self.0.announce(tx, &scope.namespace, change)?;
            Ok(container)
        })
    }

    pub fn delete(&self, scope: &Scope, id: &str) -> Result<(), MetadataError> {
        self.0.change_ahead(|tx| {
            if !CONTAINERS.remove(tx, &[&scope.namespace, id])? {
                return Err(MetadataError::NotFound(Subject::Container { id: id.into() }));
            }
            self.0.announce(tx, &scope.namespace, Change::ContainerDeleted { id: id.into() })?;
            Ok(())
        })?;
        self.0.dirty.deleted();
        Ok(())
    }
}

fn refuse_immutable(stored: &Container, wanted: &Container) -> Result<(), MetadataError> {
    if stored.snapshotter != wanted.snapshotter {
        return Err(MetadataError::Invalid("container.Snapshotter field is immutable".into()));
    }
    if stored.runtime.name != wanted.runtime.name {
        return Err(MetadataError::Invalid("container.Runtime.Name field is immutable".into()));
    }
    Ok(())
}

fn apply(container: &mut Container, wanted: &Container, path: &str) -> Result<(), MetadataError> {
    if apply_to_map(path, "labels", &mut container.labels, &wanted.labels) {
        return Ok(());
    }
    if let Some(key) = path.strip_prefix("extensions.") {
        match wanted.extensions.get(key) {
            Some(value) => container.extensions.insert(key.to_owned(), value.clone()),
            None => container.extensions.remove(key),
        };
        return Ok(());
    }
    match path {
        "spec" => container.spec.clone_from(&wanted.spec),
        "extensions" => container.extensions.clone_from(&wanted.extensions),
        "image" => container.image.clone_from(&wanted.image),
        "snapshotkey" => container.snapshot_key.clone_from(&wanted.snapshot_key),
        _ => {
            return Err(MetadataError::Immutable {
                path: path.into(),
                subject: format!("{:?}", container.id),
            });
        }
    }
    Ok(())
}

fn validate(container: &mut Container) -> Result<(), MetadataError> {
    let invalid = |text: &str| Err(MetadataError::Invalid(text.into()));
    Identifier::parse(&container.id)
        .map_err(|source| MetadataError::Identifier { field: Some("container.ID"), source })?;
    if container.extensions.contains_key("") {
        return invalid("container.Extension keys must not be zero-length");
    }
    settle_labels(&mut container.labels, "containers.Labels")?;
    if container.runtime.name.is_empty() {
        return invalid("container.Runtime.Name must be set");
    }
    if container.spec.is_none() {
        return invalid("container.Spec must be set");
    }
    if !container.snapshot_key.is_empty() && container.snapshotter.is_empty() {
        return invalid("container.Snapshotter must be set if container.SnapshotKey is set");
    }
    Ok(())
}

fn prefixed(prefix: &str, error: MetadataError) -> MetadataError {
    let text = error.to_string();
    let text = text.strip_suffix(": invalid argument").unwrap_or(&text);
    MetadataError::Invalid(format!("{prefix}: {text}"))
}

fn matches(filter: &Filter, container: &Container) -> bool {
    let present = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned().into());
    filter.matches(|path| match path {
        ["id", ..] => present(&container.id),
        ["runtime", "name", ..] => present(&container.runtime.name),
        ["image", ..] => present(&container.image),
        ["labels", key @ ..] => label_field(key, &container.labels).map(|v| v.to_owned().into()),
        _ => None,
    })
}
