//! The daemon's image records: a name that points at a descriptor.

use std::time::SystemTime;

use wharf_containerd::containerd::services::images::v1 as wire;
use wire::images_client::ImagesClient;

use crate::convert;
use crate::error::BackendError;
use crate::link::{Backend, Link, client};
use crate::types::{Descriptor, Labels};

/// An image record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The full reference, such as `docker.io/library/debian:12`.
    pub name: String,
    pub labels: Labels,
    /// An index or a manifest.
    pub target: Descriptor,
    /// Set by the daemon; ignored when creating.
    pub created_at: SystemTime,
    /// Set by the daemon; ignored when creating.
    pub updated_at: SystemTime,
}

impl Image {
    /// A record to be created.
    pub fn new(name: impl Into<String>, target: Descriptor, labels: Labels) -> Self {
        let epoch = SystemTime::UNIX_EPOCH;
        Self { name: name.into(), labels, target, created_at: epoch, updated_at: epoch }
    }
}

impl Backend {
    /// The record of that exact name.
    pub async fn image_get(&self, name: &str) -> Result<Image, BackendError> {
        let answer = self
            .read("get image", name, |link| async move {
                let request = wire::GetImageRequest { name: name.to_owned() };
                client!(ImagesClient<Link>, link).get(request).await
            })
            .await?;
        Ok(from_wire(answer.image.unwrap_or_default()))
    }

    /// Every record that one of the filters matches (containerd's filter language); all without filters.
    pub async fn image_list(&self, filters: &[String]) -> Result<Vec<Image>, BackendError> {
        let answer = self
            .read("list images", "", |link| async move {
                let request = wire::ListImagesRequest { filters: filters.to_vec() };
                client!(ImagesClient<Link>, link).list(request).await
            })
            .await?;
        Ok(answer.images.into_iter().map(from_wire).collect())
    }

    /// Creates a record; AlreadyExists if the name is taken.
    pub async fn image_create(&self, image: &Image) -> Result<Image, BackendError> {
        let request = wire::CreateImageRequest { image: Some(to_wire(image)), source_date_epoch: None };
        let answer = self
            .change("create image", &image.name, None, |link| async move {
                client!(ImagesClient<Link>, link).create(request).await
            })
            .await?;
        Ok(from_wire(answer.image.unwrap_or_default()))
    }

    /// Replaces the fields named (`target`, `labels`, `labels.<key>`); all of them if none is named.
    pub async fn image_update(&self, image: &Image, fields: &[&str]) -> Result<Image, BackendError> {
        let request = wire::UpdateImageRequest {
            image: Some(to_wire(image)),
            update_mask: mask(fields),
            source_date_epoch: None,
        };
        let answer = self
            .change("update image", &image.name, None, |link| async move {
                client!(ImagesClient<Link>, link).update(request).await
            })
            .await?;
        Ok(from_wire(answer.image.unwrap_or_default()))
    }

    /// Creates the record, or points the existing one at the new target and labels.
    pub async fn image_put(&self, image: &Image) -> Result<Image, BackendError> {
        match self.image_create(image).await {
            Err(error) if error.kind() == wharf_kinds::Kind::AlreadyExists => {
                self.image_update(image, &["target", "labels"]).await
            }
            other => other,
        }
    }

    /// Deletes a record; `sync` waits for the collection of what only it referenced.
    pub async fn image_delete(&self, name: &str, sync: bool) -> Result<(), BackendError> {
        let request = wire::DeleteImageRequest { name: name.to_owned(), sync, target: None };
        self.change("delete image", name, None, |link| async move {
            client!(ImagesClient<Link>, link).delete(request).await
        })
        .await
    }
}

pub(crate) fn mask(fields: &[&str]) -> Option<prost_types::FieldMask> {
    (!fields.is_empty())
        .then(|| prost_types::FieldMask { paths: fields.iter().map(|f| (*f).to_owned()).collect() })
}

fn from_wire(image: wire::Image) -> Image {
    Image {
        name: image.name,
        labels: convert::labels(image.labels),
        target: image.target.unwrap_or_default().into(),
        created_at: convert::time(image.created_at),
        updated_at: convert::time(image.updated_at),
    }
}

fn to_wire(image: &Image) -> wire::Image {
    wire::Image {
        name: image.name.clone(),
        labels: convert::wire_labels(&image.labels),
        target: Some(image.target.clone().into()),
        created_at: None,
        updated_at: None,
    }
}
