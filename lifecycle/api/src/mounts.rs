//! containerd.services.mounts.v1, and what of it tasks use.

use lifecycle_metadata::{Activation, ActiveMount, MountSpec, Scope};
use lifecycle_mounts::{ActivateError, Request as Activate};
use lifecycle_tasks::Tasks;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::mounts::v1 as api;
use wharf_containerd::containerd::types;
use wharf_kinds::Kind;
use wharf_vocab::Labels;

use crate::storage::{Storage, blocking, scope};
use crate::wire;

/// Activations of a task's root file system go with the container of that name.
const OF_CONTAINER: &str = "containerd.io/gc.bref.container";

/// The annotation of a runtime's `-info` that lists, with commas, what it sees to itself.
const RUNTIMES_OWN: &str = "containerd.io/runtime-allow-mounts";

pub(crate) struct MountsService(pub(crate) Storage);

fn message(mount: MountSpec) -> types::Mount {
    types::Mount { r#type: mount.kind, source: mount.source, target: mount.target, options: mount.options }
}

fn from_message(mount: types::Mount) -> MountSpec {
    MountSpec { kind: mount.r#type, source: mount.source, target: mount.target, options: mount.options }
}

fn active(active: ActiveMount) -> types::ActiveMount {
    types::ActiveMount {
        mount: Some(message(active.mount)),
        mounted_at: wire::timestamp(active.at),
        mount_point: active.point,
        data: active.data.into_iter().collect(),
    }
}

fn info(name: String, record: Activation) -> types::ActivationInfo {
    types::ActivationInfo {
        name,
        active: record.active.into_iter().map(active).collect(),
        system: record.system.into_iter().map(message).collect(),
        labels: wire::label_map(record.labels),
    }
}

type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl api::mounts_server::Mounts for MountsService {
    async fn activate(
        &self,
        request: Request<api::ActivateRequest>,
    ) -> Result<Response<api::ActivateResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let name = request.name.clone();
        let wanted = Activate {
            mounts: request.mounts.into_iter().map(from_message).collect(),
            labels: wire::labels(request.labels),
            temporary: request.temporary,
            allowed: Vec::new(),
        };
        let record = blocking(move || storage.mounts.activate(&scope, &request.name, wanted)).await?;
        Ok(Response::new(api::ActivateResponse { info: Some(info(name, record)) }))
    }

    async fn deactivate(&self, request: Request<api::DeactivateRequest>) -> Result<Response<()>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let name = request.into_inner().name;
        blocking(move || storage.mounts.deactivate(&scope, &name)).await?;
        Ok(Response::new(()))
    }

    async fn info(&self, request: Request<api::InfoRequest>) -> Result<Response<api::InfoResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let name = request.into_inner().name;
        let wanted = name.clone();
        let record = blocking(move || storage.mounts.info(&scope, &wanted)).await?;
        Ok(Response::new(api::InfoResponse { info: Some(info(name, record)) }))
    }

    /// Labels only. containerd 2.4 has the call and does not implement it.
    async fn update(
        &self,
        request: Request<api::UpdateRequest>,
    ) -> Result<Response<api::UpdateResponse>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let wanted = wire::required(request.info, "info")?;
        let mask = wire::mask(request.update_mask);
        let (name, labels) = (wanted.name.clone(), wire::labels(wanted.labels));
        let record = blocking(move || storage.mounts.update(&scope, &wanted.name, &labels, &mask)).await?;
        Ok(Response::new(api::UpdateResponse { info: Some(info(name, record)) }))
    }

    type ListStream = Answers<api::ListMessage>;

    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let filters = request.into_inner().filters;
        let all = blocking(move || storage.mounts.list(&scope, &filters)).await?;
        let messages =
            all.into_iter().map(|(name, record)| Ok(api::ListMessage { info: Some(info(name, record)) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }
}

/// What is left for a task's shim to mount, and whether something was activated for the task by this call. An activation
/// of an earlier task of the container is used again.
pub(crate) async fn activate_for_task(
    tasks: &Tasks,
    storage: &Storage,
    scope: &Scope,
    (id, runtime): (&str, &str),
    rootfs: Vec<types::Mount>,
) -> Result<(Vec<types::Mount>, bool), Status> {
    // the usual case costs nothing: plain mounts are the shim's
    if !rootfs.iter().any(|mount| lifecycle_mounts::is_for_us(&mount.r#type)) {
        return Ok((rootfs, false));
    }
    let (storage, scope, id, runtime) = (storage.clone(), scope.clone(), id.to_owned(), runtime.to_owned());
    let allowed = runtimes_own(tasks, &storage, &scope.namespace, &id, runtime).await;
    blocking(move || -> Result<_, ActivateError> {
        let wanted = Activate {
            mounts: rootfs.iter().cloned().map(from_message).collect(),
            labels: Labels::from([(OF_CONTAINER.to_owned(), id.clone())]),
            allowed,
            ..Activate::default()
        };
        let left = |record: Activation| record.system.into_iter().map(message).collect();
        match storage.mounts.activate(&scope, &id, wanted) {
            Ok(record) => Ok((left(record), true)),
            Err(e) if e.kind() == Kind::AlreadyExists => Ok((left(storage.mounts.info(&scope, &id)?), false)),
            Err(ActivateError::NothingToDo) => Ok((rootfs, false)),
            Err(e) => Err(e),
        }
    })
    .await
}

/// The types of mounts and the preparations that a task's runtime sees to itself, as its `-info` says; none where it
/// does not say. Without a runtime in the request it is the container's.
async fn runtimes_own(
    tasks: &Tasks,
    storage: &Storage,
    namespace: &str,
    id: &str,
    mut runtime: String,
) -> Vec<String> {
    if runtime.is_empty() {
        let (storage, namespace, id) = (storage.clone(), namespace.to_owned(), id.to_owned());
        let found = blocking(move || storage.container(&namespace, &id)).await;
        // one that is not there is the task's to miss
        runtime = found.map(|container| container.runtime.name).unwrap_or_default();
    }
    match tasks.runtime_info(&runtime, None).await {
        Ok(info) => info.annotations.get(RUNTIMES_OWN).map(|list| listed(list)).unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, runtime, "asking the runtime which mounts it makes itself");
            Vec::new()
        }
    }
}

fn listed(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Undoes what was activated for a task, if anything was. What cannot be unmounted now is the collector's.
pub(crate) async fn deactivate_for_task(storage: &Storage, namespace: &str, id: &str) {
    let (storage, scope, id) = (storage.clone(), Scope::new(namespace, None), id.to_owned());
    let work = move || {
        if storage.mounts.info(&scope, &id).is_err() {
            return;
        }
        match storage.mounts.deactivate(&scope, &id) {
            Err(error) if error.kind() != Kind::NotFound => {
                tracing::warn!(%error, task = id, "unmounting what a task had mounted");
            }
            _ => {}
        }
    };
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::warn!("unmounting what a task had mounted broke off");
    }
}
