//! containerd.services.transfer.v1: images between registries, archives, the image store and snapshots.

mod names;
mod registry;
mod stream;

use std::io::Write as _;
use std::path::PathBuf;

use lifecycle_images::{
    Descriptor, Ending, Export, Held, Images, ImagesError, Named, Progress, Selection, Unpack, Update,
};
use lifecycle_metadata::{Image, Scope};
use lifecycle_snapshots::{NATIVE, OVERLAYFS};
use prost::Message;
use prost_types::Any;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::transfer::v1 as api;
use wharf_containerd::containerd::types;
use wharf_containerd::containerd::types::transfer as wire_types;
use wharf_kinds::Kind;
use wharf_vocab::Platform;

use self::registry::Registries;
use crate::request::MessageLimits;
use crate::status::status;
use crate::storage::{Failure, Storage, blocking, refused, scope};
use crate::streaming::{Stream, StreamingService, Streams, named};
use crate::wire;

/// Reports waiting for the client; more are dropped.
const REPORTS: usize = 1024;

pub(crate) struct TransferService {
    storage: Storage,
    images: Images,
    streams: Streams,
    registries: Registries,
}

impl Failure for ImagesError {
    fn kind_of(&self) -> Kind {
        self.kind()
    }
}

/// Adds the services transfer and streaming.
pub(crate) fn add_to(
    storage: &Storage,
    routes: &mut tonic::service::RoutesBuilder,
    registry_hosts: Option<PathBuf>,
    limits: MessageLimits,
) {
    use wharf_containerd::containerd::services::streaming::v1::streaming_server::StreamingServer;
    let streams = Streams::default();
    let (metadata, content) = (storage.metadata.clone(), storage.content.clone());
    let images = Images::new(metadata, content);
    let registries = Registries::new(registry_hosts);
    let service = TransferService { storage: storage.clone(), images, streams: streams.clone(), registries };
    routes
        .add_service(
            api::transfer_server::TransferServer::new(service)
                .max_decoding_message_size(limits.receive)
                .max_encoding_message_size(limits.send),
        )
        .add_service(
            StreamingServer::new(StreamingService(streams))
                .max_decoding_message_size(limits.receive)
                .max_encoding_message_size(limits.send),
        );
}

/// The ends of a transfer that are understood.
enum End {
    Registry(wire_types::OciRegistry),
    Store(wire_types::ImageStore),
    Import(wire_types::ImageImportStream),
    Export(wire_types::ImageExportStream),
}

fn end(any: Option<Any>, what: &str) -> Result<End, Status> {
    let any = wire::required(any, what)?;
    fn decoded<M: Message + Default>(any: &Any) -> Result<M, Status> {
        M::decode(any.value.as_slice()).map_err(|e| status(Kind::InvalidArgument, e))
    }
    Ok(match named(&any) {
        "containerd.types.transfer.OCIRegistry" => End::Registry(decoded(&any)?),
        "containerd.types.transfer.ImageStore" => End::Store(decoded(&any)?),
        "containerd.types.transfer.ImageImportStream" => End::Import(decoded(&any)?),
        "containerd.types.transfer.ImageExportStream" => End::Export(decoded(&any)?),
        other => {
            let text = format!("method Transfer not implemented for {what} {other}");
            return Err(status(Kind::Unimplemented, text));
        }
    })
}

impl TransferService {
    async fn run(&self, scope: &Scope, from: End, to: End, progress: &Progress) -> Result<(), Status> {
        match (from, to) {
            (End::Registry(from), End::Store(to)) => self.pull(scope, from, to, progress).await,
            (End::Store(from), End::Registry(to)) => self.push(scope, from, to, progress).await,
            (End::Store(from), End::Store(to)) => self.tag(scope, from, to, progress).await,
            (End::Import(from), End::Store(to)) => self.import(scope, &from, to, progress).await,
            (End::Store(from), End::Export(to)) => self.export(scope, &from, &to, progress).await,
            (End::Import(from), End::Export(to)) => self.echo(scope, &from, &to).await,
            _ => Err(status(Kind::Unimplemented, "method Transfer not implemented between these ends")),
        }
    }

    async fn pull(
        &self,
        scope: &Scope,
        from: wire_types::OciRegistry,
        to: wire_types::ImageStore,
        progress: &Progress,
    ) -> Result<(), Status> {
        let shown = format!("OCI Registry ({})", from.reference);
        let selection = selection(&self.storage, &to)?;
        let (repository, target) = self.registries.open(&from, &self.streams, &scope.namespace).await?;
        progress.say(format!("Resolving from {shown}"));
        let held = self.images.hold_for(scope, &from.reference).await.map_err(refused)?;
        progress.say(format!("Pulling from {shown}"));
        // the client may go away, and come again
        held.ends(Ending::Interrupted);
        let pulled =
            self.images.pull(held.scope(), &repository, &target, &from.reference, &selection, progress).await;
        let is_passing = matches!(&pulled, Err(error) if error.kind() == Kind::Unavailable);
        held.ends(if is_passing { Ending::Interrupted } else { Ending::Over });
        let root = pulled.map_err(refused)?;
        self.save(&held, &to, &root, progress).await?;
        held.ends(Ending::Complete);
        progress.say(format!("Completed pull from {shown}"));
        Ok(())
    }

    async fn push(
        &self,
        scope: &Scope,
        from: wire_types::ImageStore,
        to: wire_types::OciRegistry,
        progress: &Progress,
    ) -> Result<(), Status> {
        let shown = format!("OCI Registry ({})", to.reference);
        let image = self.image(scope, &from.name).await?;
        let (repository, target) = self.registries.open(&to, &self.streams, &scope.namespace).await?;
        progress.say(format!("Pushing to {shown}"));
        let held = self.images.hold(scope).await.map_err(refused)?;
        let root = descriptor_of(&image);
        let selection = selection(&self.storage, &from)?;
        self.images
            .push(held.scope(), &root, &image.name, &selection, &repository, &target, progress)
            .await
            .map_err(refused)?;
        progress.say(format!("Completed push to {shown}"));
        Ok(())
    }

    async fn import(
        &self,
        scope: &Scope,
        from: &wire_types::ImageImportStream,
        to: wire_types::ImageStore,
        progress: &Progress,
    ) -> Result<(), Status> {
        let selection = Selection { partial: true, ..selection(&self.storage, &to)? };
        let archive = stream::incoming(self.streams.take(&scope.namespace, &from.stream)?);
        progress.say("Importing");
        let held = self.images.hold(scope).await.map_err(refused)?;
        let (images, within, compress) = (self.images.clone(), held.scope().clone(), from.force_compress);
        let imported = blocking(move || images.import(&within, archive, compress)).await?;
        let (index, manifests) = (imported.index, imported.manifests);
        // also says which document keeps which blob
        self.images.unpack(held.scope(), &index, &to.name, &selection, progress).await.map_err(refused)?;
        // a store without a name of its own names the entries alone
        let named = match names::names(&to, &index) {
            Err(refusal) if refusal.code() == tonic::Code::NotFound => Vec::new(),
            named => named?,
        };
        let mut saved: Vec<(Image, Descriptor)> =
            named.into_iter().map(|image| (image, index.clone())).collect();
        for manifest in &manifests {
            let named = names::annotated(&to, manifest);
            saved.extend(named.into_iter().map(|image| (image, manifest.clone())));
        }
        for (image, target) in saved {
            self.put(&held, image, &target, progress).await?;
        }
        progress.say("Completed import");
        Ok(())
    }

    /// Sends what comes back as it came; containerd's clients try their streams with it.
    async fn echo(
        &self,
        scope: &Scope,
        from: &wire_types::ImageImportStream,
        to: &wire_types::ImageExportStream,
    ) -> Result<(), Status> {
        let mut archive = stream::incoming(self.streams.take(&scope.namespace, &from.stream)?);
        let (mut writer, sent) = stream::outgoing(self.streams.take(&scope.namespace, &to.stream)?);
        let copied = blocking(move || {
            let copied = std::io::copy(&mut archive, &mut writer).and_then(|_| writer.flush());
            copied.map_err(ImagesError::Write)
        });
        let (copied, sent) = tokio::join!(copied, sent);
        sent?;
        copied
    }

    async fn export(
        &self,
        scope: &Scope,
        from: &wire_types::ImageStore,
        to: &wire_types::ImageExportStream,
        progress: &Progress,
    ) -> Result<(), Status> {
        let stream = self.streams.take(&scope.namespace, &to.stream)?;
        progress.say("Exporting");
        let mut images = Vec::new();
        let extra = from.extra_references.iter().map(|extra| &extra.name);
        for name in [&from.name].into_iter().chain(extra).filter(|name| !name.is_empty()) {
            let image = self.image(scope, name).await?;
            images.push(Named { name: image.name.clone(), target: descriptor_of(&image) });
        }
        let platforms = match (to.all_platforms, to.platforms.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => vec![Platform::host()],
            (false, false) => to.platforms.iter().map(platform).collect(),
        };
        let export = Export {
            images,
            platforms,
            skip_docker: to.skip_compatibility_manifest,
            skip_foreign: to.skip_non_distributable,
        };
        let held = self.images.hold(scope).await.map_err(refused)?;
        let (writer, sent) = stream::outgoing(stream);
        let (written, sent) = tokio::join!(self.images.export(held.scope(), export, writer), sent);
        written.map_err(refused)?;
        sent?;
        progress.say("Completed export");
        Ok(())
    }

    /// Gives an image another name, and unpacks it if that is asked for.
    async fn tag(
        &self,
        scope: &Scope,
        from: wire_types::ImageStore,
        to: wire_types::ImageStore,
        progress: &Progress,
    ) -> Result<(), Status> {
        let image = self.image(scope, &from.name).await?;
        let root = descriptor_of(&image);
        let held = self.images.hold(scope).await.map_err(refused)?;
        if !to.unpacks.is_empty() {
            let selection = selection(&self.storage, &to)?;
            let unpacked = self.images.unpack(held.scope(), &root, &image.name, &selection, progress);
            unpacked.await.map_err(refused)?;
        }
        self.save(&held, &to, &root, progress).await
    }

    async fn image(&self, scope: &Scope, name: &str) -> Result<Image, Status> {
        let (storage, scope, name) = (self.storage.clone(), scope.clone(), name.to_owned());
        blocking(move || storage.metadata.images().get(&scope, &name)).await
    }

    /// Gives what came its names.
    async fn save(
        &self,
        held: &Held,
        to: &wire_types::ImageStore,
        root: &Descriptor,
        progress: &Progress,
    ) -> Result<(), Status> {
        let named = names::names(to, root)?;
        for image in named {
            self.put(held, image, root, progress).await?;
        }
        Ok(())
    }

    async fn put(
        &self,
        held: &Held,
        image: Image,
        target: &Descriptor,
        progress: &Progress,
    ) -> Result<(), Status> {
        let (storage, scope) = (self.storage.clone(), held.scope().clone());
        let image = blocking(move || names::put(&storage.metadata, &scope, image)).await?;
        progress.image("saved", &image.name, target);
        Ok(())
    }
}

#[tonic::async_trait]
impl api::transfer_server::Transfer for TransferService {
    async fn transfer(&self, request: Request<api::TransferRequest>) -> Result<Response<()>, Status> {
        let scope = scope(&request)?;
        let request = request.into_inner();
        let name = request.options.map(|options| options.progress_stream).unwrap_or_default();
        let (progress, reporting) = if name.is_empty() {
            (Progress::default(), None)
        } else {
            let stream = self.streams.take(&scope.namespace, &name)?;
            let (send, receive) = mpsc::channel(REPORTS);
            (Progress::new(send), Some(tokio::spawn(report(stream, receive))))
        };
        let (from, to) = (end(request.source, "source")?, end(request.destination, "destination")?);
        let outcome = self.run(&scope, from, to, &progress).await;
        drop(progress);
        if let Some(reporting) = reporting {
            // the last reports are out before the answer is; a client that takes none holds nothing up
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), reporting).await;
        }
        outcome.map(Response::new)
    }
}

async fn report(stream: Stream, mut updates: mpsc::Receiver<Update>) {
    while let Some(update) = updates.recv().await {
        let message = wire_types::Progress {
            event: update.event,
            name: update.name,
            parents: update.parents,
            progress: wire::signed(update.progress),
            total: wire::signed(update.total),
            desc: update.descriptor.map(|descriptor| types::Descriptor {
                media_type: descriptor.media_type,
                digest: descriptor.digest.into(),
                size: wire::signed(descriptor.size),
                annotations: wire::label_map(descriptor.annotations),
            }),
        };
        if !stream.send("containerd.types.transfer.Progress", &message).await {
            return;
        }
    }
}

fn platform(message: &types::Platform) -> Platform {
    Platform {
        os: message.os.clone(),
        architecture: message.architecture.clone(),
        variant: message.variant.clone(),
        os_version: message.os_version.clone(),
        os_features: message.os_features.clone(),
    }
}

/// What of an image the store wants; InvalidArgument for snapshots of a kind that is not here.
fn selection(storage: &Storage, store: &wire_types::ImageStore) -> Result<Selection, Status> {
    let unpack = |one: &wire_types::UnpackConfiguration| {
        let snapshotter = match one.snapshotter.as_str() {
            "" | OVERLAYFS => storage.snapshotter.clone(),
            NATIVE => storage.native.clone(),
            other => {
                let text = format!("unpacks.snapshotter: {other:?} is not loaded: invalid argument");
                return Err(status(Kind::InvalidArgument, text));
            }
        };
        Ok(Unpack { platform: one.platform.as_ref().map_or_else(Platform::host, platform), snapshotter })
    };
    Ok(Selection {
        platforms: store.platforms.iter().map(platform).collect(),
        all_metadata: store.all_metadata,
        limit: usize::try_from(store.manifest_limit).unwrap_or(usize::MAX),
        unpack: store.unpacks.iter().map(unpack).collect::<Result<_, Status>>()?,
        partial: false,
    })
}

fn descriptor_of(image: &Image) -> Descriptor {
    let target = &image.target;
    let size = u64::try_from(target.size).unwrap_or_default();
    let mut descriptor = Descriptor::new(&target.media_type, target.digest.clone(), size);
    descriptor.annotations = target.annotations.clone();
    descriptor
}
