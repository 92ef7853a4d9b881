//! An image from a registry.

use lifecycle_metadata::Scope;
use wharf_failpoints::{Point, hit};
use wharf_registry::{Descriptor, Repository, Target};

use crate::error::ImagesError;
use crate::fetch::Route;
use crate::images::Images;
use crate::progress::Progress;
use crate::tree::Selection;
use crate::wording::Act;

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
        let root = from.resolve(target).await.map_err(ImagesError::registry(Act::Resolve, name))?;
        progress.image("fetching image content", name, &root);
        let inner = &self.0;
        let tree = inner.tree(scope, &root, name, selection, Some(from), progress).await?;
        hit(Point::ImageDocuments);
        let route = Route { scope: scope.clone(), from: Some(from.clone()), progress: progress.clone() };
        inner.complete(&route, &tree, selection).await?;
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
        self.0.complete(&route, &tree, selection).await
    }
}
