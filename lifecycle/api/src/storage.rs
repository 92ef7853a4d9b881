//! The storing half of the daemon, opened: records, content, snapshots and the collector.

use std::fmt::Display;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifecycle_content::{ContentError, ContentStore};
use lifecycle_events::Exchange;
use lifecycle_metadata::{
    CollectError, Collector, Container, DeliverError, Delivery, LEFT_OVER, Metadata, MetadataError, Schedule,
    Scope,
};
use lifecycle_mounts::{ActivateError, Mounts};
use lifecycle_snapshots::{LayerError, Processors, SnapshotError, Snapshotter};
use tonic::{Request, Status};
use wharf_containerd::containerd::services;
use wharf_kinds::Kind;
use wharf_store::{DirectoryLock, LockError, StoreError};

use crate::announce;
use crate::request::{self, MessageLimits};
use crate::status::status;

/// Why the stores could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("create {}: {source}", path.display())]
    Root { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Metadata(#[from] StoreError),
    #[error("open the content store: {0}")]
    Content(#[from] ContentError),
    #[error("open the snapshotter: {0}")]
    Snapshots(#[from] SnapshotError),
    #[error("open the mount manager: {0}")]
    Mounts(#[from] ActivateError),
    #[error("start the garbage collector: {0}")]
    Collector(io::Error),
    #[error(transparent)]
    Deliver(#[from] DeliverError),
}

/// What can be set of the stores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoragePolicy {
    pub schedule: Schedule,
    /// Each namespace has to bring the bytes of its blobs itself.
    pub isolated_content: bool,
    /// Programs that make layers of blobs of other media types.
    pub processors: Processors,
}

/// Everything that is stored below the daemon's root; cheap to clone.
#[derive(Clone)]
pub struct Storage {
    pub(crate) metadata: Metadata,
    pub(crate) content: ContentStore,
    /// On overlayfs.
    pub(crate) snapshotter: Snapshotter,
    /// Of whole copies.
    pub(crate) native: Snapshotter,
    pub(crate) mounts: Mounts,
    pub(crate) processors: Processors,
    pub(crate) collector: Collector,
    _delivery: Arc<Delivery>,
    _lock: Arc<DirectoryLock>,
}

impl Storage {
    /// Opens or creates what is below `root`; a second daemon on the same root is refused. What a crash left half
    /// made is removed.
    ///
    /// `targets` is where the mounts are that the daemon makes for clients.
    pub fn open(
        root: &Path,
        targets: &Path,
        policy: StoragePolicy,
        events: Exchange,
    ) -> Result<Storage, OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(root)
            .map_err(|source| OpenError::Root { path: root.into(), source })?;
        let lock = Arc::new(DirectoryLock::acquire(root)?);
        let metadata = Metadata::open(root)?;
        let content = ContentStore::open(&root.join("content"), metadata.clone())?;
        let content = content.isolated(policy.isolated_content);
        let snapshotter = Snapshotter::open(&root.join("snapshots/overlay"), metadata.clone())?;
        let native = Snapshotter::open_native(&root.join("snapshots/native"), metadata.clone())?;
        let mounts = Mounts::open(targets, &[root.to_path_buf()], metadata.clone())?;
        let collector = Collector::start(
            metadata.clone(),
            vec![
                Arc::new(mounts.clone()),
                Arc::new(content.clone()),
                Arc::new(snapshotter.clone()),
                Arc::new(native.clone()),
            ],
            policy.schedule,
            |_| {},
        )
        .map_err(OpenError::Collector)?;
        let live = events.clone();
        let delivery = metadata.deliver(
            |left| events.hold_back(left.into_iter().map(announce::envelope).collect(), LEFT_OVER),
            move |event| {
                let envelope = announce::envelope(event);
                let topic = envelope.topic.clone();
                if let Err(error) = live.forward(envelope) {
                    tracing::warn!(%error, topic, "publishing an event");
                }
            },
        )?;
        // before anybody is served, so that nothing new is in its way; a failure keeps garbage, and no more
        if let Err(error) = collector.collect() {
            tracing::error!(%error, "clearing what the last run left");
        }
        Ok(Storage {
            metadata,
            content,
            snapshotter,
            native,
            mounts,
            processors: policy.processors,
            collector,
            _delivery: Arc::new(delivery),
            _lock: lock,
        })
    }

    /// Adds the services namespaces, content, images, snapshots, diff, leases, mounts and
    /// containers.
    pub(crate) fn add_to(
        &self,
        routes: &mut tonic::service::RoutesBuilder,
        registry_hosts: Option<PathBuf>,
        limits: MessageLimits,
    ) {
        use services::containers::v1::containers_server::ContainersServer;
        use services::content::v1::content_server::ContentServer;
        use services::diff::v1::diff_server::DiffServer;
        use services::images::v1::images_server::ImagesServer;
        use services::leases::v1::leases_server::LeasesServer;
        use services::mounts::v1::mounts_server::MountsServer;
        use services::namespaces::v1::namespaces_server::NamespacesServer;
        use services::snapshots::v1::snapshots_server::SnapshotsServer;
        macro_rules! add {
            ($server:ident, $service:path) => {
                routes.add_service(
                    $server::new($service(self.clone()))
                        .max_decoding_message_size(limits.receive)
                        .max_encoding_message_size(limits.send),
                );
            };
        }
        add!(NamespacesServer, crate::namespaces::NamespacesService);
        add!(ContentServer, crate::content::ContentService);
        add!(ImagesServer, crate::images::ImagesService);
        add!(SnapshotsServer, crate::snapshots::SnapshotsService);
        add!(DiffServer, crate::diff::DiffService);
        add!(LeasesServer, crate::leases::LeasesService);
        add!(MountsServer, crate::mounts::MountsService);
        add!(ContainersServer, crate::containers::ContainersService);
        crate::transfer::add_to(self, routes, registry_hosts, limits);
    }

    /// A container's record, for what runs it.
    pub fn container(&self, namespace: &str, id: &str) -> Result<Container, MetadataError> {
        self.metadata.containers().get(&Scope::new(namespace, None), id)
    }
}

/// Where a request happens.
pub(crate) fn scope<T>(request: &Request<T>) -> Result<Scope, Status> {
    Ok(Scope::new(request::namespace(request)?, request::lease(request)))
}

/// An error of the domain, which knows its kind.
pub(crate) trait Failure: Display + Send + 'static {
    fn kind_of(&self) -> Kind;
}

macro_rules! failures {
    ($($error:ty),*) => {
        $(impl Failure for $error {
            fn kind_of(&self) -> Kind {
                self.kind()
            }
        })*
    };
}

failures!(MetadataError, ContentError, SnapshotError, LayerError, CollectError, ActivateError);

/// The status of a failed operation.
pub(crate) fn refused(error: impl Failure) -> Status {
    status(error.kind_of(), error)
}

/// Runs what may block away from the reactor.
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    E: Failure,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(refused),
        Err(_) => Err(status(Kind::Internal, "the operation broke off")),
    }
}
