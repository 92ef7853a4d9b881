//! Taking names from images, and images away: Docker's rules for what is refused, untagged and deleted.

use std::collections::BTreeSet;

use engine_backend::BackendError;
use engine_core::usage::ImageUser;
use wharf_docker::image::Deleted;
use wharf_kinds::Kind;
use wharf_vocab::{Digest, ImageReference};

use crate::catalog::{Catalog, Known};
use crate::images::Images;
use crate::lookup::{LookupError, Via, find_in};
use crate::name::RecordName;

/// What to delete.
#[derive(Clone, Debug)]
pub struct DeleteRequest {
    /// A name takes that name; an id takes the image with all its names.
    pub name: String,
    /// Also when stopped containers use it, or several repositories name it.
    pub force: bool,
}

/// Why an image was not deleted. The texts are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error(
        "conflict: unable to remove repository reference {name:?} (must force) - container {container} is using its referenced image {image}"
    )]
    LastName { name: String, container: String, image: String },
    #[error("conflict: unable to delete {image} ({force}) - {reason}")]
    InUse { image: String, force: &'static str, reason: String },
    #[error("image name cannot be blank")]
    Blank,
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl DeleteError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::LastName { .. } | Self::InUse { .. } => Kind::Conflict,
            Self::Blank => Kind::InvalidArgument,
            Self::Lookup(error) => error.kind(),
            Self::Backend(error) => error.kind(),
        }
    }
}

/// Ids as Docker's texts have them.
fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

/// What is to be done, decided before anything is done.
#[derive(Debug, Default)]
struct Plan {
    /// Records of the daemon to delete.
    records: Vec<String>,
    untagged: Vec<ImageReference>,
    /// The image goes with its last name; these are its layers that no other image has, topmost first.
    deleted: Option<Vec<Digest>>,
    /// The image loses its last name but stays: a container runs on it.
    stays: bool,
}

impl Images {
    /// Deletes a name or an image and tells what became of it.
    pub async fn delete(&self, request: &DeleteRequest) -> Result<Vec<Deleted>, DeleteError> {
        if request.name.trim().is_empty() {
            return Err(DeleteError::Blank);
        }
        let catalog = self.catalog().await?;
        let (known, via) = find_in(&catalog, &request.name)?;
        let users = self.inner.usage.containers_using(known.image.id().as_str());
        let plan = plan(&catalog, &known, &via, request, &users)?;
        self.carry_out(&known, plan).await
    }

    /// Deletes an image that nothing uses, with all its names.
    pub(crate) async fn delete_unused(
        &self,
        catalog: &Catalog,
        known: &Known,
    ) -> Result<Vec<Deleted>, DeleteError> {
        let plan = whole(catalog, known);
        self.carry_out(known, plan).await
    }

    async fn carry_out(&self, known: &Known, plan: Plan) -> Result<Vec<Deleted>, DeleteError> {
        let id = known.image.id();
        let mut report = Vec::new();
        if plan.stays {
            self.keep_nameless(&known.image.target).await?;
        }
        let last = plan.records.len().saturating_sub(1);
        for (at, record) in plan.records.iter().enumerate() {
            let _held = self.inner.locks.hold(&format!("name {record}")).await;
            // the collection that the last one causes is waited for, so that the space is free on return
            match self.backend().image_delete(record, plan.deleted.is_some() && at == last).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        for name in &plan.untagged {
            self.publish_event("untag", id.as_str(), id.as_str());
            report.push(Deleted { untagged: name.familiar(), ..Deleted::default() });
        }
        if let Some(layers) = plan.deleted {
            self.publish_event("delete", id.as_str(), id.as_str());
            let gone = std::iter::once(id.to_string()).chain(layers.iter().map(ToString::to_string));
            report.extend(gone.map(|deleted| Deleted { deleted, ..Deleted::default() }));
            for record in &known.records {
                self.inner.cache.forget(&record.image.target.digest);
            }
        }
        Ok(report)
    }
}

fn plan(
    catalog: &Catalog,
    known: &Known,
    via: &Via,
    request: &DeleteRequest,
    users: &[ImageUser],
) -> Result<Plan, DeleteError> {
    let names: Vec<ImageReference> = known.tags().into_iter().chain(known.digests()).collect();
    let Via::Name(name) = via else {
        let is_single = is_single_reference(&names);
        refuse_if_used(known, request.force, users, !is_single && names.len() > 1)?;
        return Ok(whole(catalog, known));
    };
    let mut remaining: Vec<ImageReference> = names.iter().filter(|n| *n != name).cloned().collect();
    let mut untagged = vec![name.clone()];
    if name.digest().is_none() {
        let is_other_tag = |n: &ImageReference| n.digest().is_none() && n.name() == name.name();
        if !remaining.iter().any(is_other_tag) {
            // digests of a repository go with its last tag
            let (gone, kept): (Vec<_>, Vec<_>) = remaining.into_iter().partition(|n| n.name() == name.name());
            untagged.extend(gone);
            remaining = kept;
        }
    }
    if !remaining.is_empty() {
        let records = records_of(known, &untagged);
        return Ok(Plan { records, untagged, deleted: None, stays: false });
    }
    if !request.force
        && let Some(user) = users.first()
    {
        return Err(DeleteError::LastName {
            name: request.name.clone(),
            container: short(&user.container_id),
            image: short(known.image.id().as_str()),
        });
    }
    if users.iter().any(|u| u.running) {
        let records = records_of(known, &untagged);
        return Ok(Plan { records, untagged, deleted: None, stays: true });
    }
    Ok(whole(catalog, known))
}

/// Everything of an image: each record, each name.
fn whole(catalog: &Catalog, known: &Known) -> Plan {
    let others = catalog.values().filter(|k| k.image.id() != known.image.id());
    let shared: BTreeSet<&Digest> = others.flat_map(|k| &k.image.chain).collect();
    let layers = known.image.chain.iter().rev().filter(|c| !shared.contains(c)).cloned().collect();
    Plan {
        records: known.records.iter().map(|r| r.raw.clone()).collect(),
        untagged: known.tags().into_iter().chain(known.digests()).collect(),
        deleted: Some(layers),
        stays: false,
    }
}

fn records_of(known: &Known, names: &[ImageReference]) -> Vec<String> {
    let is_named = |name: &RecordName| match name {
        RecordName::Tagged(n) => names.contains(n),
        RecordName::Digested(n) => n.digest().is_some_and(|d| names.contains(&n.with_digest(d.clone()))),
        RecordName::Nameless => false,
    };
    known.records.iter().filter(|r| is_named(&r.name)).map(|r| r.raw.clone()).collect()
}

/// At most one tag, and digests of that tag's repository alone.
fn is_single_reference(names: &[ImageReference]) -> bool {
    let tags: Vec<_> = names.iter().filter(|n| n.digest().is_none()).collect();
    let Some(first) = tags.first().copied().or(names.first()) else { return true };
    tags.len() <= 1 && names.iter().all(|n| n.name() == first.name())
}

fn refuse_if_used(
    known: &Known,
    force: bool,
    users: &[ImageUser],
    is_shared: bool,
) -> Result<(), DeleteError> {
    let image = || short(known.image.id().as_str());
    if let Some(user) = users.iter().find(|u| u.running) {
        return Err(DeleteError::InUse {
            image: image(),
            force: "cannot be forced",
            reason: format!("image is being used by running container {}", short(&user.container_id)),
        });
    }
    if force {
        return Ok(());
    }
    let must = "must be forced";
    if is_shared {
        let reason = "image is referenced in multiple repositories".to_owned();
        return Err(DeleteError::InUse { image: image(), force: must, reason });
    }
    match users.first() {
        Some(user) => {
            let reason = format!("image is being used by stopped container {}", short(&user.container_id));
            Err(DeleteError::InUse { image: image(), force: must, reason })
        }
        None => Ok(()),
    }
}
