//! An image from a registry.

use lifecycle_metadata::Scope;
use tracing::{Instrument as _, info_span};
use wharf_failpoints::{Point, hit};
use wharf_registry::{Descriptor, Repository, Target};

use crate::error::ImagesError;
use crate::fetch::Route;
use crate::images::Images;
use crate::progress::Progress;
use crate::tree::Selection;
use crate::wording::Act;

/// The target of spans that are for traces and not for the log.
pub(crate) const WORK: &str = "wharf::work";

impl Images {
    /// Brings an image into the content store and unpacks it as selected. The scope needs a lease that holds what
    /// comes until a name is given to it.
    pub async fn pull(
        &self,
        scope: &Scope,
        from: &Repository,
        target: &Target,
        name: &str,
        selection: &Selection,
        progress: &Progress,
    ) -> Result<Descriptor, ImagesError> {
        let resolving = info_span!(target: WORK, "image.resolve", image = name);
        let root = from
            .resolve(target)
            .instrument(resolving)
            .await
            .map_err(ImagesError::registry(Act::Resolve, name))?;
        progress.image("fetching image content", name, &root);
        let inner = &self.0;
        let reading = info_span!(target: WORK, "image.documents", image = name);
        let tree =
            inner.tree(scope, &root, name, selection, Some(from), progress).instrument(reading).await?;
        hit(Point::ImageDocuments);
        let route = Route { scope: scope.clone(), from: Some(from.clone()), progress: progress.clone() };
        let completing = info_span!(target: WORK, "image.layers", image = name);
        inner.complete(&route, &tree, selection).instrument(completing).await?;
        hit(Point::ImageComplete);
        Ok(root)
    }

    /// Unpacks an image whose content is here.
    pub async fn unpack(
        &self,
        scope: &Scope,
        root: &Descriptor,
        name: &str,
        selection: &Selection,
        progress: &Progress,
    ) -> Result<(), ImagesError> {
        let tree = self.0.tree(scope, root, name, selection, None, progress).await?;
        let route = Route { scope: scope.clone(), from: None, progress: progress.clone() };
        let completing = info_span!(target: WORK, "image.layers", image = name);
        self.0.complete(&route, &tree, selection).instrument(completing).await
    }
}
