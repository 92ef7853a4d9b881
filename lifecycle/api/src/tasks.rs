//! `containerd.services.tasks.v1`.

mod checkpoint;

use lifecycle_tasks::{CreateTask, ExecTask, Exit, Phase, ProcessState, Stdio, TaskError, Tasks};
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, info_span};
use wharf_containerd::containerd::services::tasks::v1::tasks_server::Tasks as TasksApi;
use wharf_containerd::containerd::services::tasks::v1::{
    CheckpointTaskRequest, CheckpointTaskResponse, CloseIoRequest, CreateTaskRequest, CreateTaskResponse,
    DeleteProcessRequest, DeleteResponse, DeleteTaskRequest, ExecProcessRequest, GetRequest, GetResponse,
    KillRequest, ListPidsRequest, ListPidsResponse, ListTasksRequest, ListTasksResponse, MetricsRequest,
    MetricsResponse, PauseTaskRequest, ResizePtyRequest, ResumeTaskRequest, StartRequest, StartResponse,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use wharf_containerd::containerd::types::Metric;
use wharf_containerd::containerd::v1::types::{Process, Status as ProcessStatus};
use wharf_vocab::Filter;

use crate::mounts;
use crate::request::namespace;
use crate::status::status;
use crate::storage::{Storage, scope};

pub(crate) struct TasksService {
    pub(crate) tasks: Tasks,
    pub(crate) storage: Storage,
}

type Answer<T> = Result<Response<T>, Status>;

fn refuse(error: TaskError) -> Status {
    status(error.kind(), error)
}

#[tonic::async_trait]
impl TasksApi for TasksService {
    async fn create(&self, request: Request<CreateTaskRequest>) -> Answer<CreateTaskResponse> {
        let (namespace, scope) = (namespace(&request)?, scope(&request)?);
        let request = request.into_inner();
        let options = request.options.as_ref();
        let from = checkpoint::origin(&self.tasks, &self.storage, &scope, request.checkpoint, options);
        let origin = from.await?;
        let mut task_api = (request.task_api_address, request.task_api_version);
        if task_api.0.is_empty() {
            task_api = checkpoint::task_api(options)?;
        }
        let id = request.container_id;
        let named = (id.as_str(), request.runtime_path.as_str());
        let left =
            mounts::activate_for_task(&self.tasks, &self.storage, &scope, named, request.rootfs).await?;
        let (rootfs, is_activated) = left;
        let create = CreateTask {
            namespace,
            id: id.clone(),
            rootfs,
            stdio: Stdio {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
            options: request.options,
            runtime: request.runtime_path,
            task_api,
            origin,
        };
        let span = info_span!(target: "wharf::work", "task.create", task = id);
        let created = self.tasks.create(create).instrument(span).await;
        if created.is_err() && is_activated {
            mounts::deactivate_for_task(&self.storage, &scope.namespace, &id).await;
        }
        let pid = created.map_err(refuse)?;
        Ok(Response::new(CreateTaskResponse { container_id: id, pid }))
    }

    async fn start(&self, request: Request<StartRequest>) -> Answer<StartResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        let pid =
            self.tasks.start(&namespace, &request.container_id, &request.exec_id).await.map_err(refuse)?;
        Ok(Response::new(StartResponse { pid }))
    }

    async fn delete(&self, request: Request<DeleteTaskRequest>) -> Answer<DeleteResponse> {
        let namespace = namespace(&request)?;
        let id = request.into_inner().container_id;
        let span = info_span!(target: "wharf::work", "task.delete", task = id);
        let exit = self.tasks.delete(&namespace, &id).instrument(span).await.map_err(refuse)?;
        mounts::deactivate_for_task(&self.storage, &namespace, &id).await;
        Ok(Response::new(deleted(String::new(), exit)))
    }

    async fn delete_process(&self, request: Request<DeleteProcessRequest>) -> Answer<DeleteResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        let exit = self
            .tasks
            .delete_process(&namespace, &request.container_id, &request.exec_id)
            .await
            .map_err(refuse)?;
        Ok(Response::new(deleted(request.exec_id, exit)))
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<GetResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        let state =
            self.tasks.get(&namespace, &request.container_id, &request.exec_id).await.map_err(refuse)?;
        Ok(Response::new(GetResponse { process: Some(process(state)) }))
    }

    async fn list(&self, request: Request<ListTasksRequest>) -> Answer<ListTasksResponse> {
        let namespace = namespace(&request)?;
        let tasks = self.tasks.list(&namespace).into_iter().map(process).collect();
        Ok(Response::new(ListTasksResponse { tasks }))
    }

    async fn kill(&self, request: Request<KillRequest>) -> Answer<()> {
        let namespace = namespace(&request)?;
        let KillRequest { container_id, exec_id, signal, all } = request.into_inner();
        self.tasks.kill(&namespace, &container_id, &exec_id, signal, all).await.map_err(refuse)?;
        Ok(Response::new(()))
    }

    async fn exec(&self, request: Request<ExecProcessRequest>) -> Answer<()> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        let exec = ExecTask {
            namespace,
            id: request.container_id,
            exec: request.exec_id,
            stdio: Stdio {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
            },
            spec: request.spec,
        };
        self.tasks.exec(exec).await.map_err(refuse)?;
        Ok(Response::new(()))
    }

    async fn resize_pty(&self, request: Request<ResizePtyRequest>) -> Answer<()> {
        let namespace = namespace(&request)?;
        let ResizePtyRequest { container_id, exec_id, width, height } = request.into_inner();
        self.tasks.resize(&namespace, &container_id, &exec_id, width, height).await.map_err(refuse)?;
        Ok(Response::new(()))
    }

    async fn close_io(&self, request: Request<CloseIoRequest>) -> Answer<()> {
        let namespace = namespace(&request)?;
        let CloseIoRequest { container_id, exec_id, stdin } = request.into_inner();
        self.tasks.close_io(&namespace, &container_id, &exec_id, stdin).await.map_err(refuse)?;
        Ok(Response::new(()))
    }

    async fn pause(&self, request: Request<PauseTaskRequest>) -> Answer<()> {
        let namespace = namespace(&request)?;
        self.tasks.pause(&namespace, &request.into_inner().container_id).await.map_err(refuse)?;
        Ok(Response::new(()))
    }

    async fn resume(&self, request: Request<ResumeTaskRequest>) -> Answer<()> {
        let namespace = namespace(&request)?;
        self.tasks.resume(&namespace, &request.into_inner().container_id).await.map_err(refuse)?;
        Ok(Response::new(()))
    }

    async fn list_pids(&self, request: Request<ListPidsRequest>) -> Answer<ListPidsResponse> {
        let namespace = namespace(&request)?;
        let processes =
            self.tasks.pids(&namespace, &request.into_inner().container_id).await.map_err(refuse)?;
        Ok(Response::new(ListPidsResponse { processes }))
    }

    async fn checkpoint(&self, request: Request<CheckpointTaskRequest>) -> Answer<CheckpointTaskResponse> {
        let scope = scope(&request)?;
        let CheckpointTaskRequest { container_id, options, .. } = request.into_inner();
        let descriptors = checkpoint::save(&self.tasks, &self.storage, scope, &container_id, options).await?;
        Ok(Response::new(CheckpointTaskResponse { descriptors }))
    }

    async fn update(&self, request: Request<UpdateTaskRequest>) -> Answer<()> {
        let namespace = namespace(&request)?;
        let UpdateTaskRequest { container_id, resources, annotations } = request.into_inner();
        self.tasks.update(&namespace, &container_id, resources, annotations).await.map_err(refuse)?;
        Ok(Response::new(()))
    }

    async fn metrics(&self, request: Request<MetricsRequest>) -> Answer<MetricsResponse> {
        let namespace = namespace(&request)?;
        let filter =
            Filter::parse_all(&request.into_inner().filters).map_err(|error| status(error.kind(), error))?;
        let metrics = self.tasks.metrics(&namespace, &filter).await;
        let metrics = metrics
            .into_iter()
            .map(|metric| Metric { timestamp: Some(metric.at.into()), id: metric.id, data: metric.data })
            .collect();
        Ok(Response::new(MetricsResponse { metrics }))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Answer<WaitResponse> {
        let namespace = namespace(&request)?;
        let request = request.into_inner();
        let exit =
            self.tasks.wait(&namespace, &request.container_id, &request.exec_id).await.map_err(refuse)?;
        Ok(Response::new(WaitResponse { exit_status: exit.status, exited_at: exit.at }))
    }
}

fn deleted(id: String, exit: Exit) -> DeleteResponse {
    DeleteResponse { id, pid: exit.pid, exit_status: exit.status, exited_at: exit.at }
}

/// A process as containerd reports it: `container_id` stays empty there too.
fn process(state: ProcessState) -> Process {
    let (status, exit) = match state.phase {
        Phase::Unknown => (ProcessStatus::Unknown, None),
        Phase::Created => (ProcessStatus::Created, None),
        Phase::Running => (ProcessStatus::Running, None),
        Phase::Pausing => (ProcessStatus::Pausing, None),
        Phase::Paused => (ProcessStatus::Paused, None),
        Phase::Stopped(exit) => (ProcessStatus::Stopped, Some(exit)),
    };
    Process {
        container_id: String::new(),
        id: state.id,
        pid: state.pid,
        status: status.into(),
        stdin: state.stdio.stdin,
        stdout: state.stdio.stdout,
        stderr: state.stdio.stderr,
        terminal: state.stdio.terminal,
        exit_status: exit.map(|exit| exit.status).unwrap_or_default(),
        exited_at: exit.and_then(|exit| exit.at),
    }
}
