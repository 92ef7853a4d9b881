//! An image's layers into committed snapshots.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use lifecycle_metadata::{Resource, Scope, SnapshotKind};
use lifecycle_snapshots::{Layer, Snapshotter};
use tokio::task::JoinSet;
use tracing::{Instrument as _, info_span};
use wharf_archive::Applied;
use wharf_failpoints::{Point, hit};
use wharf_kinds::Kind;
use wharf_vocab::{Digest, Labels, PlatformMatcher, label_names};

use crate::chain::chain_ids;
use crate::error::ImagesError;
use crate::fetch::Route;
use crate::images::{Inner, blocking};
use crate::progress::Subject;
use crate::pull::WORK;
use crate::tree::{Config, Parts, Selection, Tree, Unpack};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A layer of the image: where it comes from and what it is to become.
#[derive(Clone)]
struct Step {
    subject: Subject,
    diff_id: Digest,
    chain_id: Digest,
    /// Chain id of what is below, empty for nothing.
    parent: String,
}

impl Inner {
    /// Brings every blob of the tree, and unpacks what is to be unpacked.
    pub async fn complete(
        self: &Arc<Self>,
        route: &Route,
        tree: &Tree,
        selection: &Selection,
    ) -> Result<(), ImagesError> {
        let mut configs = Vec::with_capacity(tree.images.len());
        for image in &tree.images {
            self.bring(route, &Subject::new(&image.config, &image.parents), None).await?;
            configs.push(self.config(&route.scope, image).await?);
        }
        let unpacked = chosen(&tree.images, &configs, selection);
        let with_layers: HashSet<usize> = unpacked.iter().map(|(n, _)| *n).collect();
        let mut blobs = JoinSet::new();
        for (n, image) in tree.images.iter().enumerate().filter(|(_, image)| image.whole) {
            if with_layers.contains(&n) {
                continue;
            }
            // what stays with its publisher is not in archives
            let layers = image.layers.iter().filter(|layer| route.from.is_some() || !layer.is_foreign());
            for layer in layers {
                let (this, route) = (self.clone(), route.clone());
                let subject = Subject::new(layer, &image.parents);
                blobs.spawn(async move { this.bring(&route, &subject, None).await.map(drop) });
            }
        }
        for (n, to) in unpacked {
            if let Some(config) = &configs[n] {
                self.unpack(route, &to, &tree.images[n], config).await?;
            }
        }
        while let Some(brought) = blobs.join_next().await {
            brought.unwrap_or(Err(ImagesError::Broken))?;
        }
        Ok(())
    }

    /// The config, if it is an image's: artifacts have others.
    async fn config(self: &Arc<Self>, scope: &Scope, image: &Parts) -> Result<Option<Config>, ImagesError> {
        let kind = image.config.media_type.as_str();
        if !matches!(
            kind,
            wharf_registry::media_types::OCI_CONFIG | wharf_registry::media_types::DOCKER_CONFIG
        ) {
            return Ok(None);
        }
        let (this, scope, digest) = (self.clone(), scope.clone(), image.config.digest.clone());
        blocking(move || Config::parse(&digest, &this.read(&scope, &digest)?)).await.map(Some)
    }

    /// Brings and unpacks all layers side by side, and commits them in order.
    async fn unpack(
        self: &Arc<Self>,
        route: &Route,
        to: &Snapshotter,
        image: &Parts,
        config: &Config,
    ) -> Result<(), ImagesError> {
        let steps = plan(image, config)?;
        let Some(top) = steps.last().map(|step| step.chain_id.clone()) else { return Ok(()) };
        let done = self.unpacked_already(route, to, &steps).await?;
        let mut rest = JoinSet::new();
        for step in &steps[..done] {
            let (this, route, subject) = (self.clone(), route.clone(), step.subject.clone());
            rest.spawn(async move { this.bring(&route, &subject, None).await.map(drop) });
        }
        if to.layers_stand_alone() {
            self.side_by_side(route, to, &steps[done..]).await?;
        } else {
            self.one_by_one(route, to, &steps[done..]).await?;
        }
        while let Some(brought) = rest.join_next().await {
            brought.unwrap_or(Err(ImagesError::Broken))?;
        }
        hit(Point::ImageUnpacked);
        // what keeps the layers once the lease is gone
        let label = (format!("{}{}", label_names::GC_REF_SNAPSHOT, to.name()), top.to_string());
        self.label(&route.scope, &image.config.digest, Labels::from([label]), None).await
    }

    /// How many layers, from the lowest, are there; the lease keeps them.
    async fn unpacked_already(
        self: &Arc<Self>,
        route: &Route,
        to: &Snapshotter,
        steps: &[Step],
    ) -> Result<usize, ImagesError> {
        let (this, scope, to) = (self.clone(), route.scope.clone(), to.clone());
        let chain: Vec<Digest> = steps.iter().map(|step| step.chain_id.clone()).collect();
        blocking(move || {
            for (n, id) in chain.iter().enumerate().rev() {
                let id = id.as_str();
                let committed =
                    |info: lifecycle_metadata::SnapshotInfo| info.record.kind == SnapshotKind::Committed;
                if !to.stat(&scope, id).is_ok_and(committed) {
                    continue;
                }
                if let Some(lease) = &scope.lease {
                    let kind = format!("snapshots/{}", to.name());
                    let resource = Resource { kind, id: id.into() };
                    this.metadata.leases().add_resource(&scope, lease, &resource)?;
                }
                if to.stat(&scope, id).is_ok() {
                    return Ok(n + 1);
                }
            }
            Ok(0)
        })
        .await
    }

    async fn side_by_side(
        self: &Arc<Self>,
        route: &Route,
        to: &Snapshotter,
        steps: &[Step],
    ) -> Result<(), ImagesError> {
        // dropped on a failure: what is under way is broken off, and its layers go
        let mut under_way = JoinSet::new();
        for (n, step) in steps.iter().cloned().enumerate() {
            let (this, route, to) = (self.clone(), route.clone(), to.clone());
            let digest = &step.subject.descriptor.digest;
            let span = info_span!(target: WORK, "image.layer", %digest);
            let bring = async move {
                let layer = begin(&to, &route.scope, &step, "").await?;
                let brought = this.bring(&route, &step.subject, layer).await?;
                if brought.is_some() {
                    route.progress.blob("extracting", &step.subject, step.subject.descriptor.size);
                }
                Ok::<_, ImagesError>((n, brought))
            };
            under_way.spawn(bring.instrument(span));
        }
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        while let Some(outcome) = under_way.join_next().await {
            let (n, brought) = outcome.unwrap_or(Err(ImagesError::Broken))?;
            waiting.insert(n, brought);
            while let Some(brought) = waiting.remove(&next) {
                self.commit(route, &steps[next], brought).await?;
                next += 1;
            }
        }
        Ok(())
    }

    async fn one_by_one(
        self: &Arc<Self>,
        route: &Route,
        to: &Snapshotter,
        steps: &[Step],
    ) -> Result<(), ImagesError> {
        let mut blobs = JoinSet::new();
        for step in steps.iter().cloned() {
            let (this, route) = (self.clone(), route.clone());
            blobs.spawn(async move { this.bring(&route, &step.subject, None).await.map(drop) });
        }
        for step in steps {
            let layer = begin(to, &route.scope, step, &step.parent).await?;
            let brought = self.bring(route, &step.subject, layer).await?;
            self.commit(route, step, brought).await?;
        }
        while let Some(brought) = blobs.join_next().await {
            brought.unwrap_or(Err(ImagesError::Broken))?;
        }
        Ok(())
    }

    async fn commit(
        self: &Arc<Self>,
        route: &Route,
        step: &Step,
        brought: Option<(Layer, Applied)>,
    ) -> Result<(), ImagesError> {
        let Some((layer, applied)) = brought else { return Ok(()) };
        let digest = step.subject.descriptor.digest.clone();
        let found = applied.uncompressed.0;
        let (this, scope, step2) = (self.clone(), route.scope.clone(), step.clone());
        blocking(move || {
            if found != step2.diff_id {
                drop(layer);
                return Err(ImagesError::DiffId { layer: digest, found, wanted: step2.diff_id });
            }
            let name = step2.chain_id.as_str();
            match layer.commit(name, &step2.parent, Labels::new()) {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::AlreadyExists => {}
                Err(source) => return Err(ImagesError::Layer { digest, source }),
            }
            hit(Point::ImageLayerCommitted);
            let label = (label_names::UNCOMPRESSED.to_owned(), step2.diff_id.to_string());
            Ok(crate::labels::add(&this.content, &scope, &digest, Labels::from([label]), None)?)
        })
        .await?;
        route.progress.blob("extracted", &step.subject, step.subject.descriptor.size);
        Ok(())
    }
}

/// A snapshot for the layer; none if the layer is there, which the lease then keeps.
async fn begin(
    to: &Snapshotter,
    scope: &Scope,
    step: &Step,
    parent: &str,
) -> Result<Option<Layer>, ImagesError> {
    let (to, scope, chain) = (to.clone(), scope.clone(), step.chain_id.to_string());
    let parent = parent.to_owned();
    blocking(move || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let key = format!("extract-{}-{} {chain}", now.as_nanos(), NEXT.fetch_add(1, Ordering::Relaxed));
        let labels = Labels::from([(label_names::SNAPSHOT_REF.to_owned(), chain)]);
        match to.begin_layer(&scope, &key, &parent, labels) {
            Ok(layer) => Ok(Some(layer)),
            Err(error) if error.kind() == Kind::AlreadyExists => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

fn plan(image: &Parts, config: &Config) -> Result<Vec<Step>, ImagesError> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != image.layers.len() {
        let reason =
            format!("it has {} layers where its manifest has {}", diff_ids.len(), image.layers.len());
        return Err(ImagesError::Config { digest: image.config.digest.clone(), reason });
    }
    let chain = chain_ids(diff_ids);
    let each = image.layers.iter().zip(diff_ids).zip(&chain).enumerate();
    Ok(each
        .map(|(n, ((layer, diff_id), chain_id))| Step {
            subject: Subject::new(layer, &image.parents),
            diff_id: diff_id.clone(),
            chain_id: chain_id.clone(),
            parent: n.checked_sub(1).map(|below| chain[below].to_string()).unwrap_or_default(),
        })
        .collect())
}

/// The images to unpack: for each platform the one that fits best.
fn chosen(images: &[Parts], configs: &[Option<Config>], selection: &Selection) -> Vec<(usize, Snapshotter)> {
    let mut chosen: Vec<(usize, Snapshotter)> = Vec::new();
    for Unpack { platform, snapshotter } in &selection.unpack {
        let matcher = PlatformMatcher::only(platform);
        let candidates = images.iter().zip(configs).enumerate().filter(|(_, (image, _))| image.whole);
        let ranked = candidates.filter_map(|(n, (image, config))| {
            let platform = image.platform.clone().or_else(|| config.as_ref()?.platform())?;
            Some((matcher.rank(&platform)?, n))
        });
        let Some((_, n)) = ranked.min() else { continue };
        if !chosen.iter().any(|(other, to)| *other == n && to.name() == snapshotter.name()) {
            chosen.push((n, snapshotter.clone()));
        }
    }
    chosen
}
