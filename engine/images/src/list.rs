//! Listing images, with Docker's filters.

use std::collections::BTreeMap;

use engine_backend::BackendError;
use engine_core::filter::{FilterError, Filters, has_label};
use futures_util::{StreamExt, TryStreamExt, stream};
use wharf_docker::image::Summary;
use wharf_docker::moment;
use wharf_docker::time::Time;
use wharf_kinds::Kind;
use wharf_vocab::ImageReference;

use crate::catalog::{Catalog, Known};
use crate::glob;
use crate::images::Images;
use crate::lookup::{LookupError, find_in};
use crate::stored::StoredImage;

/// Filters that a list takes.
const FILTERS: [&str; 7] = ["dangling", "label", "label!", "before", "since", "until", "reference"];
const PARALLEL: usize = 16;

/// Why images cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The image that `before` or `since` names.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl ListError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Filter(error) => error.kind(),
            Self::Lookup(error) => error.kind(),
            Self::Backend(error) => error.kind(),
        }
    }
}

/// Filters made ready for one look at the catalog.
pub(crate) struct Selection<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    /// Created before all of these.
    before: Vec<Time>,
    /// Created after all of these.
    since: Vec<Time>,
}

impl<'a> Selection<'a> {
    pub fn new(filters: &'a Filters, catalog: &Catalog) -> Result<Self, ListError> {
        filters.expect(&FILTERS)?;
        let created = |name: &str| {
            let found = filters.values(name).map(|value| find_in(catalog, value).map(|(k, _)| created(&k)));
            found.collect::<Result<Vec<Time>, _>>()
        };
        let (mut before, since) = (created("before")?, created("since")?);
        for value in filters.values("until") {
            let at = moment::parse(value, Time::now())
                .ok_or_else(|| FilterError::Value { name: "until".into(), value: value.to_owned() })?;
            before.push(at);
        }
        for pattern in filters.values("reference") {
            if glob::matches(pattern, "").is_none() {
                return Err(FilterError::Value { name: "reference".into(), value: pattern.to_owned() }.into());
            }
        }
        Ok(Self { dangling: filters.boolean("dangling")?, filters, before, since })
    }

    pub fn takes(&self, known: &Known) -> bool {
        let at = created(known);
        let labels = &known.image.document.config.labels;
        self.dangling.is_none_or(|wanted| wanted == known.is_dangling())
            && self.before.iter().all(|other| at < *other)
            && self.since.iter().all(|other| at > *other)
            && self.filters.labels("label", labels)
            && !self.filters.values("label!").any(|wanted| has_label(wanted, labels))
    }

    /// The names among those given that the reference filter takes.
    fn named(&self, names: Vec<ImageReference>) -> Vec<String> {
        let taken = |name: &ImageReference| {
            let is_match = |pattern: &str, text: &str| glob::matches(pattern, text) == Some(true);
            !self.filters.contains("reference")
                || self
                    .filters
                    .values("reference")
                    .any(|p| is_match(p, &name.familiar()) || is_match(p, &name.familiar_name()))
        };
        names.iter().filter(|n| taken(n)).map(ImageReference::familiar).collect()
    }
}

/// When an image says it was made; the epoch if it does not.
pub(crate) fn created(known: &Known) -> Time {
    made_at(&known.image)
}

fn made_at(image: &StoredImage) -> Time {
    image.document.created.or_else(|| Time::from_unix(0, 0)).unwrap_or_default()
}

impl Images {
    /// The images that the filters take, newest first. [`Summary::containers`] is counted.
    pub async fn list(&self, filters: &Filters) -> Result<Vec<Summary>, ListError> {
        let catalog = self.catalog().await?;
        let selection = Selection::new(filters, &catalog)?;
        let users = self.inner.usage.counts();
        let by_reference = filters.contains("reference");
        let mut taken = Vec::new();
        for known in catalog.into_values().filter(|known| selection.takes(known)) {
            let (tags, digests) = (selection.named(known.tags()), selection.named(known.digests()));
            if !by_reference || !tags.is_empty() || !digests.is_empty() {
                let used = users.get(known.image.id().as_str()).copied().unwrap_or(0);
                taken.push((known.image, tags, digests, used));
            }
        }
        let summaries = stream::iter(taken).map(|(image, tags, digests, used)| async move {
            self.summary(&image, tags, digests, used).await
        });
        let mut summaries: Vec<Summary> = summaries.buffered(PARALLEL).try_collect().await?;
        summaries.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(summaries)
    }

    async fn summary(
        &self,
        image: &StoredImage,
        repo_tags: Vec<String>,
        repo_digests: Vec<String>,
        used: usize,
    ) -> Result<Summary, BackendError> {
        let labels: BTreeMap<String, String> = image.document.config.labels.clone();
        Ok(Summary {
            containers: i64::try_from(used).unwrap_or(i64::MAX),
            created: made_at(image).unix_seconds(),
            id: image.id().to_string(),
            labels: (!labels.is_empty()).then_some(labels),
            parent_id: String::new(),
            descriptor: None,
            repo_digests,
            repo_tags,
            shared_size: -1,
            size: self.size(image).await?,
        })
    }
}
