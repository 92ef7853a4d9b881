//! Images: names that point at content.

use std::time::SystemTime;

use wharf_vocab::{Digest, Filter, label_field, label_names};

use crate::collector::expiry;
use crate::error::{MetadataError, Subject};
use crate::fields::{apply_to_map, settle_labels};
use crate::outbox::Change;
use crate::records::Image;
use crate::tables::IMAGES;
use crate::{Metadata, Scope, leases, namespaces};

pub struct Images<'a>(pub(crate) &'a Metadata);

impl Images<'_> {
    pub fn get(&self, scope: &Scope, name: &str) -> Result<Image, MetadataError> {
        IMAGES.get(&self.0.db.view()?, &[&scope.namespace, name])?.ok_or_else(|| not_found(name))
    }

    /// In order of names.
    pub fn list(&self, scope: &Scope, filters: &[String]) -> Result<Vec<Image>, MetadataError> {
        let filter = Filter::parse_all(filters)?;
        let all = IMAGES.list(&self.0.db.view()?, &[&scope.namespace])?;
        Ok(all.into_iter().map(|(_, i)| i).filter(|i| matches(&filter, i)).collect())
    }

    /// `created` and `updated` are set here, to `epoch` if the caller gives one for reproducibility.
    pub fn create(
        &self,
        scope: &Scope,
        mut image: Image,
        epoch: Option<SystemTime>,
    ) -> Result<Image, MetadataError> {
        validate(&mut image)?;
        self.0.change(|tx| {
            let key = [scope.namespace.as_str(), &image.name];
            if IMAGES.contains(tx, &key)? {
                return Err(MetadataError::AlreadyExists(Subject::Image(image.name.clone())));
            }
            namespaces::ensure(tx, &scope.namespace)?;
            lease_if_it_expires(tx, scope, &image)?;
            image.created = epoch.unwrap_or_else(SystemTime::now);
            image.updated = image.created;
            IMAGES.put(tx, &key, &image)?;
            let change = Change::ImageCreated { name: image.name.clone(), labels: image.labels.clone() };
            self.0.announce(tx, &scope.namespace, change)?;
            Ok::<_, MetadataError>(())
        })?;
        self.0.dirty.expires(expiry(&image.labels));
        Ok(image)
    }

    /// Paths: `labels`, `labels.k`, `target`, `annotations`, `annotations.k`. An empty mask replaces everything.
    pub fn update(
        &self,
        scope: &Scope,
        wanted: &Image,
        mask: &[String],
        epoch: Option<SystemTime>,
    ) -> Result<Image, MetadataError> {
        if wanted.name.is_empty() {
            return Err(MetadataError::Invalid("image name is required for update".into()));
        }
        let (image, lost_target) = self.0.change(|tx| {
            let key = [scope.namespace.as_str(), &wanted.name];
            let stored = IMAGES.get(tx, &key)?.ok_or_else(|| not_found(&wanted.name))?;
            let mut image = if mask.is_empty() { wanted.clone() } else { stored.clone() };
            for path in mask {
                apply(&mut image, wanted, path)?;
            }
            image.created = stored.created;
            validate(&mut image)?;
            lease_if_it_expires(tx, scope, &image)?;
            image.updated = epoch.unwrap_or_else(SystemTime::now);
            IMAGES.put(tx, &key, &image)?;
            let change = Change::ImageUpdated { name: image.name.clone(), labels: image.labels.clone() };
            self.0.announce(tx, &scope.namespace, change)?;
            let lost_target = image.target.digest != stored.target.digest;
            Ok::<_, MetadataError>((image, lost_target))
        })?;
        self.0.dirty.expires(expiry(&image.labels));
        if lost_target {
            self.0.dirty.deleted();
        }
        Ok(image)
    }

    /// With `target`, only if the image still points there.
    pub fn delete(&self, scope: &Scope, name: &str, target: Option<&Digest>) -> Result<(), MetadataError> {
        self.0.change(|tx| {
            let key = [scope.namespace.as_str(), name];
            let image = IMAGES.get(tx, &key)?.ok_or_else(|| not_found(name))?;
            if let Some(target) = target
                && image.target.digest != *target
            {
                return Err(MetadataError::NotFound(Subject::ImageTarget {
                    name: name.into(),
                    has: image.target.digest,
                    wanted: target.clone(),
                }));
            }
            leases::detach(tx, scope, leases::IMAGES_KIND, name)?;
            IMAGES.remove(tx, &key)?;
            self.0.announce(tx, &scope.namespace, Change::ImageDeleted { name: name.into() })?;
            Ok(())
        })?;
        self.0.dirty.deleted();
        Ok(())
    }
}

/// Images never expire unless a label says so; only those that do need a lease to hold them.
fn lease_if_it_expires(tx: &wharf_store::Write, scope: &Scope, image: &Image) -> Result<(), MetadataError> {
    if image.labels.contains_key(label_names::GC_EXPIRE) {
        leases::attach(tx, scope, leases::IMAGES_KIND, &image.name)?;
    }
    Ok(())
}

fn not_found(name: &str) -> MetadataError {
    MetadataError::NotFound(Subject::Image(name.into()))
}

fn apply(image: &mut Image, wanted: &Image, path: &str) -> Result<(), MetadataError> {
    let labels = apply_to_map(path, "labels", &mut image.labels, &wanted.labels);
    if labels || apply_to_map(path, "annotations", &mut image.target.annotations, &wanted.target.annotations)
    {
        return Ok(());
    }
    if path != "target" {
        return Err(MetadataError::Immutable {
            path: path.into(),
            subject: format!("image {:?}", image.name),
        });
    }
    image.target = wanted.target.clone();
    Ok(())
}

fn validate(image: &mut Image) -> Result<(), MetadataError> {
    let invalid = |text: &str| Err(MetadataError::Invalid(text.into()));
    if image.name.is_empty() {
        return invalid("image name must not be empty");
    }
    settle_labels(&mut image.labels, "image.Labels")?;
    image.target.annotations.retain(|_, value| !value.is_empty());
    if image.target.size <= 0 {
        return invalid("target.Size must be greater than zero");
    }
    if image.target.media_type.is_empty() {
        return invalid("target.MediaType must be set");
    }
    Ok(())
}

fn matches(filter: &Filter, image: &Image) -> bool {
    let present = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned().into());
    filter.matches(|path| match path {
        ["name", ..] => present(&image.name),
        ["target", "digest", ..] => present(image.target.digest.as_str()),
        ["target", "mediatype", ..] => present(&image.target.media_type),
        ["labels", key @ ..] => label_field(key, &image.labels).map(|v| v.to_owned().into()),
        ["annotations", key @ ..] => label_field(key, &image.target.annotations).map(|v| v.to_owned().into()),
        _ => None,
    })
}
