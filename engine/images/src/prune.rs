//! Deleting images that nothing uses.

use engine_backend::BackendError;
use engine_core::filter::{FilterError, Filters, has_label};
use wharf_docker::image::PruneReport;
use wharf_docker::moment;
use wharf_docker::time::Time;
use wharf_kinds::Kind;

use crate::delete::DeleteError;
use crate::images::Images;
use crate::list::created;

/// Filters that a prune takes.
const FILTERS: [&str; 4] = ["dangling", "label", "label!", "until"];

/// Why images were not pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Delete(#[from] DeleteError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl PruneError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Filter(error) => error.kind(),
            Self::Delete(error) => error.kind(),
            Self::Backend(error) => error.kind(),
        }
    }
}

impl Images {
    /// Deletes images without a tag, or with `dangling=false` every one, that no container uses.
    pub async fn prune(&self, filters: &Filters) -> Result<PruneReport, PruneError> {
        filters.expect(&FILTERS)?;
        let only_dangling = filters.boolean("dangling")?.unwrap_or(true);
        let mut before = None;
        for value in filters.values("until") {
            let wrong = || FilterError::Value { name: "until".into(), value: value.to_owned() };
            before = Some(moment::parse(value, Time::now()).ok_or_else(wrong)?);
        }
        let mut report = PruneReport::default();
        let mut gone = Vec::new();
        let catalog = self.catalog().await?;
        for known in catalog.values() {
            let labels = &known.image.document.config.labels;
            let is_wanted = (!only_dangling || known.is_dangling())
                && before.is_none_or(|before| created(known) < before)
                && filters.labels("label", labels)
                && !filters.values("label!").any(|wanted| has_label(wanted, labels));
            if !is_wanted || !self.inner.usage.containers_using(known.image.id().as_str()).is_empty() {
                continue;
            }
            // what the image shares with one that stays is not freed
            let now = self.catalog().await?;
            let others: Vec<_> = now.values().filter(|k| k.image.id() != known.image.id()).collect();
            let sizes = self.layer_sizes(&known.image).await?;
            let own = known
                .image
                .chain
                .iter()
                .zip(sizes)
                .filter(|(chain, _)| !others.iter().any(|other| other.image.chain.contains(chain)));
            report.space_reclaimed += own.map(|(_, size)| size).sum::<u64>();
            gone.extend(self.delete_unused(&now, known).await?);
        }
        report.images_deleted = (!gone.is_empty()).then_some(gone);
        Ok(report)
    }
}
