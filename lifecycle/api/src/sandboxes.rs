//! containerd.services.sandbox.v1: the store of records, and the controller that runs them.

use std::time::SystemTime;

use lifecycle_metadata::{Runtime, Sandbox};
use lifecycle_tasks::{CreateSandbox, TaskError, Tasks};
use tonic::{Request, Response, Status};
use wharf_containerd::containerd::services::sandbox::v1 as api;
use wharf_containerd::containerd::types;
use wharf_kinds::Kind;

use crate::request::namespace;
use crate::status::status;
use crate::storage::{Storage, blocking, scope};
use crate::wire;

/// The only controller: a shim with the sandbox API.
const SANDBOXER: &str = "shim";

/// Records of sandboxes.
pub(crate) struct SandboxStore(pub(crate) Storage);

fn message(sandbox: Sandbox) -> types::Sandbox {
    types::Sandbox {
        sandbox_id: sandbox.id,
        runtime: Some(types::sandbox::Runtime {
            name: sandbox.runtime.name,
            options: sandbox.runtime.options.map(wire::any),
        }),
        spec: sandbox.spec.map(wire::any),
        labels: wire::label_map(sandbox.labels),
        created_at: wire::timestamp(sandbox.created),
        updated_at: wire::timestamp(sandbox.updated),
        extensions: sandbox.extensions.into_iter().map(|(name, value)| (name, wire::any(value))).collect(),
        sandboxer: sandbox.sandboxer,
    }
}

fn record(message: types::Sandbox) -> Sandbox {
    let runtime = message.runtime.unwrap_or_default();
    Sandbox {
        id: message.sandbox_id,
        labels: wire::labels(message.labels),
        runtime: Runtime { name: runtime.name, options: runtime.options.map(wire::any_value) },
        spec: message.spec.map(wire::any_value),
        sandboxer: message.sandboxer,
        extensions: message.extensions.into_iter().map(|(name, any)| (name, wire::any_value(any))).collect(),
        created: SystemTime::UNIX_EPOCH,
        updated: SystemTime::UNIX_EPOCH,
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl api::store_server::Store for SandboxStore {
    async fn create(&self, request: Request<api::StoreCreateRequest>) -> Answer<api::StoreCreateResponse> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let wanted = record(wire::required(request.into_inner().sandbox, "Sandbox")?);
        if wanted.runtime.name.is_empty() {
            let text = "sandbox.runtime.name must be set: invalid argument";
            return Err(status(Kind::InvalidArgument, text));
        }
        let made = blocking(move || storage.metadata.sandboxes().create(&scope, wanted)).await?;
        Ok(Response::new(api::StoreCreateResponse { sandbox: Some(message(made)) }))
    }

    async fn update(&self, request: Request<api::StoreUpdateRequest>) -> Answer<api::StoreUpdateResponse> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let request = request.into_inner();
        let wanted = record(wire::required(request.sandbox, "Sandbox")?);
        let mask = request.fields;
        let updated = blocking(move || storage.metadata.sandboxes().update(&scope, &wanted, &mask)).await?;
        Ok(Response::new(api::StoreUpdateResponse { sandbox: Some(message(updated)) }))
    }

    async fn delete(&self, request: Request<api::StoreDeleteRequest>) -> Answer<api::StoreDeleteResponse> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let id = request.into_inner().sandbox_id;
        blocking(move || storage.metadata.sandboxes().delete(&scope, &id)).await?;
        Ok(Response::new(api::StoreDeleteResponse {}))
    }

    async fn list(&self, request: Request<api::StoreListRequest>) -> Answer<api::StoreListResponse> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let filters = request.into_inner().filters;
        let found = blocking(move || storage.metadata.sandboxes().list(&scope, &filters)).await?;
        Ok(Response::new(api::StoreListResponse { list: found.into_iter().map(message).collect() }))
    }

    async fn get(&self, request: Request<api::StoreGetRequest>) -> Answer<api::StoreGetResponse> {
        let (storage, scope) = (self.0.clone(), scope(&request)?);
        let id = request.into_inner().sandbox_id;
        let found = blocking(move || storage.metadata.sandboxes().get(&scope, &id)).await?;
        Ok(Response::new(api::StoreGetResponse { sandbox: Some(message(found)) }))
    }
}

/// Running sandboxes.
pub(crate) struct SandboxController {
    pub(crate) tasks: Tasks,
    pub(crate) storage: Storage,
}

fn refuse(error: TaskError) -> Status {
    status(error.kind(), error)
}

fn check(sandboxer: &str) -> Result<(), Status> {
    match sandboxer {
        SANDBOXER => Ok(()),
        "" => {
            let text = "invalid argument: sandbox controller name can not be empty";
            Err(status(Kind::InvalidArgument, text))
        }
        other => {
            let text = format!("not found: failed to get sandbox controller by {other}");
            Err(status(Kind::NotFound, text))
        }
    }
}

#[tonic::async_trait]
impl api::controller_server::Controller for SandboxController {
    async fn create(
        &self,
        request: Request<api::ControllerCreateRequest>,
    ) -> Answer<api::ControllerCreateResponse> {
        let scope = scope(&request)?;
        let namespace = scope.namespace.clone();
        let request = request.into_inner();
        check(&request.sandboxer)?;
        let id = request.sandbox_id;
        let described = match request.sandbox {
            Some(sandbox) => record(sandbox),
            // clients of before the field existed: the record tells
            None => {
                let (storage, id) = (self.storage.clone(), id.clone());
                blocking(move || storage.metadata.sandboxes().get(&scope, &id)).await?
            }
        };
        let create = CreateSandbox {
            namespace,
            id: id.clone(),
            runtime: described.runtime.name,
            runtime_options: described.runtime.options.map(wire::any),
            spec: described.spec.map(wire::any),
            rootfs: request.rootfs,
            options: request.options,
            netns: request.netns_path,
            annotations: request.annotations,
        };
        self.tasks.create_sandbox(create).await.map_err(refuse)?;
        Ok(Response::new(api::ControllerCreateResponse { sandbox_id: id }))
    }

    async fn start(
        &self,
        request: Request<api::ControllerStartRequest>,
    ) -> Answer<api::ControllerStartResponse> {
        let namespace = namespace(&request)?;
        let api::ControllerStartRequest { sandbox_id, sandboxer } = request.into_inner();
        check(&sandboxer)?;
        let started = self.tasks.start_sandbox(&namespace, &sandbox_id).await.map_err(|error| {
            status(error.kind(), format_args!("failed to start sandbox {sandbox_id:?}: {error}"))
        })?;
        Ok(Response::new(api::ControllerStartResponse {
            sandbox_id,
            pid: started.pid,
            created_at: started.created_at,
            address: started.address,
            version: started.version,
            spec: started.spec,
            ..api::ControllerStartResponse::default()
        }))
    }

    async fn platform(
        &self,
        request: Request<api::ControllerPlatformRequest>,
    ) -> Answer<api::ControllerPlatformResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        check(&request.sandboxer)?;
        let platform = self.tasks.sandbox_platform(&namespace, &request.sandbox_id).await.map_err(refuse)?;
        Ok(Response::new(api::ControllerPlatformResponse { platform }))
    }

    async fn stop(
        &self,
        request: Request<api::ControllerStopRequest>,
    ) -> Answer<api::ControllerStopResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        check(&request.sandboxer)?;
        let stopped = self.tasks.stop_sandbox(&namespace, &request.sandbox_id, request.timeout_secs);
        stopped.await.map_err(refuse)?;
        Ok(Response::new(api::ControllerStopResponse {}))
    }

    async fn wait(
        &self,
        request: Request<api::ControllerWaitRequest>,
    ) -> Answer<api::ControllerWaitResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        check(&request.sandboxer)?;
        let exit = self.tasks.wait_sandbox(&namespace, &request.sandbox_id).await.map_err(refuse)?;
        Ok(Response::new(api::ControllerWaitResponse { exit_status: exit.status, exited_at: exit.at }))
    }

    async fn status(
        &self,
        request: Request<api::ControllerStatusRequest>,
    ) -> Answer<api::ControllerStatusResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        check(&request.sandboxer)?;
        let id = request.sandbox_id;
        match self.tasks.sandbox_status(&namespace, &id, request.verbose).await {
            Ok((found, endpoint)) => Ok(Response::new(api::ControllerStatusResponse {
                sandbox_id: found.sandbox_id,
                pid: found.pid,
                state: found.state,
                info: found.info,
                created_at: found.created_at,
                exited_at: found.exited_at,
                extra: found.extra,
                address: endpoint.api_text(),
                version: endpoint.version,
            })),
            // as containerd: one that does not run has ended
            Err(TaskError::NoSandbox(_)) => Ok(Response::new(api::ControllerStatusResponse {
                sandbox_id: id,
                exited_at: wire::timestamp(SystemTime::now()),
                ..api::ControllerStatusResponse::default()
            })),
            Err(error) => Err(refuse(error)),
        }
    }

    async fn shutdown(
        &self,
        request: Request<api::ControllerShutdownRequest>,
    ) -> Answer<api::ControllerShutdownResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        check(&request.sandboxer)?;
        self.tasks.shutdown_sandbox(&namespace, &request.sandbox_id).await.map_err(refuse)?;
        Ok(Response::new(api::ControllerShutdownResponse {}))
    }

    async fn metrics(
        &self,
        request: Request<api::ControllerMetricsRequest>,
    ) -> Answer<api::ControllerMetricsResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        check(&request.sandboxer)?;
        let metrics = self.tasks.sandbox_metrics(&namespace, &request.sandbox_id).await.map_err(refuse)?;
        Ok(Response::new(api::ControllerMetricsResponse { metrics }))
    }

    async fn update(
        &self,
        request: Request<api::ControllerUpdateRequest>,
    ) -> Answer<api::ControllerUpdateResponse> {
        namespace(&request)?;
        let request = request.into_inner();
        check(&request.sandboxer)?;
        wire::required(request.sandbox, "Sandbox")?;
        // the shim's API has no update: as in containerd, nothing is passed on
        Ok(Response::new(api::ControllerUpdateResponse {}))
    }
}
