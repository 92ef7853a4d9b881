//! How an image came to be, as its config tells.

use wharf_docker::image::HistoryItem;
use wharf_docker::time::Time;
use wharf_vocab::{ImageReference, Platform};

use crate::images::Images;
use crate::lookup::LookupError;
use crate::stored;

const UNKNOWN: &str = "<missing>";

impl Images {
    /// The steps, newest first, with the size of the layer that each made.
    pub async fn history(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Vec<HistoryItem>, LookupError> {
        let (known, _) = self.find(name).await?;
        let image = match platform {
            None => known.image.clone(),
            Some(_) => stored::read(self.backend(), &self.inner.cache, &known.image.target, platform).await?,
        };
        let mut sizes = self.layer_sizes(&image).await?.into_iter();
        let steps = image.document.history.iter().map(|step| HistoryItem {
            comment: step.comment.clone(),
            created: step.created.map_or(0, Time::unix_seconds),
            created_by: step.created_by.clone(),
            id: UNKNOWN.to_owned(),
            size: if step.empty_layer {
                0
            } else {
                sizes.next().map_or(0, |s| i64::try_from(s).unwrap_or(i64::MAX))
            },
            tags: None,
        });
        let mut items: Vec<HistoryItem> = steps.collect();
        items.reverse();
        if let Some(newest) = items.first_mut() {
            newest.id = image.id().to_string();
            let tags: Vec<String> = known.tags().iter().map(ImageReference::familiar).collect();
            newest.tags = (!tags.is_empty()).then_some(tags);
        }
        Ok(items)
    }
}
