//! Everything Docker tells of one image.

use wharf_docker::image::{GraphDriver, Inspect, Metadata, RootFs};
use wharf_vocab::{ImageReference, Platform};

use crate::images::Images;
use crate::lookup::LookupError;
use crate::stored;

impl Images {
    /// The image by any of its names, for a platform or this machine's.
    pub async fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<Inspect, LookupError> {
        let (known, _) = self.find(name).await?;
        let image = match platform {
            None => known.image.clone(),
            Some(_) => stored::read(self.backend(), &self.inner.cache, &known.image.target, platform).await?,
        };
        let document = &image.document;
        let shown =
            |names: Vec<ImageReference>| names.iter().map(ImageReference::familiar).collect::<Vec<_>>();
        let tags = known.tags();
        Ok(Inspect {
            id: image.id().to_string(),
            metadata: Metadata {
                last_tag_time: known
                    .last_tagged()
                    .filter(|_| !tags.is_empty())
                    .map(Into::into)
                    .unwrap_or_default(),
            },
            repo_tags: shown(tags),
            repo_digests: shown(known.digests()),
            comment: comment(document),
            created: document.created,
            author: document.author.clone(),
            config: Some(document.config.clone()),
            architecture: document.platform().architecture,
            variant: document.variant.clone(),
            os: document.platform().os,
            os_version: document.os_version.clone(),
            size: self.size(&image).await?,
            graph_driver: Some(GraphDriver { data: None, name: self.backend().snapshotter().to_owned() }),
            root_fs: RootFs {
                r#type: "layers".to_owned(),
                layers: document.diff_ids().map(ToString::to_string).collect(),
            },
            descriptor: None,
        })
    }
}

/// An image made by Docker's own builder has its comment on the last step alone.
fn comment(document: &crate::document::Document) -> String {
    match document.history.last() {
        Some(last) if document.comment.is_empty() => last.comment.clone(),
        _ => document.comment.clone(),
    }
}
