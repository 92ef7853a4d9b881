//! Creating a task: bundle, shim, and the shim's `Create`. Undone as a whole if any of it fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use prost_types::Any;
use tokio::task::spawn_blocking;
use wharf_containerd::containerd::task::v3::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, ShutdownRequest,
};
use wharf_containerd::containerd::types::Mount;
use wharf_failpoints::{Point, hit};
use wharf_vocab::Identifier;

use crate::bundle::{Bundle, BundleError};
use crate::client::ShimClient;
use crate::endpoint::Endpoint;
use crate::error::TaskError;
use crate::limits;
use crate::origin::Origin;
use crate::process::{Phase, Process, Stdio};
use crate::shimlog;
use crate::task::{Link, Stage, Task};
use crate::tasks::{Container, Tasks};

/// What to create.
#[derive(Debug, Default)]
pub struct CreateTask {
    pub namespace: String,
    pub id: String,
    /// Mounted by the shim as the container's root filesystem.
    pub rootfs: Vec<Mount>,
    pub stdio: Stdio,
    /// Instead of the container's runtime options.
    pub options: Option<Any>,
    /// Instead of the container's runtime, if not empty.
    pub runtime: String,
    /// A task API that is there already, with its version, instead of a shim of its own; empty for none.
    pub task_api: (String, u32),
    pub origin: Origin,
}

impl Tasks {
    /// Creates the task of a container and returns its pid. It is created even if the caller loses patience.
    pub async fn create(&self, request: CreateTask) -> Result<u32, TaskError> {
        let tasks = self.clone();
        tokio::spawn(async move { tasks.create_now(request).await })
            .await
            .unwrap_or(Err(TaskError::Interrupted))
    }

    async fn create_now(&self, request: CreateTask) -> Result<u32, TaskError> {
        let container = self.shared.containers.container(&request.namespace, &request.id)?;
        Identifier::parse(&request.id)
            .map_err(|source| TaskError::TaskId { id: request.id.clone(), source })?;
        if let Some(old) = self.find(&request.namespace, &request.id)
            && old.stage() == Stage::Buried
        {
            // a client that expects it to have vanished with its shim, as with containerd
            self.take_remains(&old).await?;
        }
        let reservation = self.reserve_after(&request.namespace, &request.id).await?;
        let config = &self.shared.config;
        let bundle = Bundle::at(&config.root, &config.state, &request.namespace, &request.id);
        let spec = container.spec.as_ref().map(|any| any.value.clone());
        let fresh = move |bundle: &Bundle| {
            if bundle.path.exists() {
                // no task has the id: a removal failed, or the daemon died in the middle of one
                bundle.remove()?;
            }
            bundle.create(spec.as_deref())
        };
        blocking(&bundle, fresh).await?;
        if let Origin::Staged(staging) = &request.origin {
            staging.move_into(&bundle)?;
        }
        match self.launch(&bundle, &container, &request).await {
            Ok(task) => {
                let pid = task.processes().init.pid();
                reservation.fill(&task);
                task.watch("");
                self.supervise(&task);
                Ok(pid)
            }
            Err(error) => {
                if let Err(error) = blocking(&bundle, Bundle::remove).await {
                    tracing::error!(id = bundle.id, namespace = bundle.namespace, %error, "failed to remove bundle");
                }
                Err(error)
            }
        }
    }

    /// The shim of the container's sandbox, or the task API that the request names, if it has one.
    fn served_already(
        &self,
        bundle: &Bundle,
        container: &Container,
        request: &CreateTask,
    ) -> Result<Option<(Option<PathBuf>, Endpoint)>, TaskError> {
        let (address, version) = &request.task_api;
        if !address.is_empty() {
            let endpoint = Endpoint::of_api(address, *version);
            return match endpoint {
                Ok(endpoint) => Ok(Some((None, endpoint))),
                Err(error) => Err(TaskError::TaskApi(address.clone(), error)),
            };
        }
        if container.sandbox.is_empty() {
            return Ok(None);
        }
        match self.sandbox(&bundle.namespace, &container.sandbox) {
            Ok(sandbox) => Ok(Some((Some(sandbox.program.clone()), sandbox.endpoint.clone()))),
            // a task may be the sandbox, as a pod's pause container is
            Err(error) => match self.find(&bundle.namespace, &container.sandbox) {
                Some(task) => Ok(Some((Some(task.program.clone()), task.endpoint.clone()))),
                None if container.sandbox == bundle.id => Ok(None),
                None => Err(error),
            },
        }
    }

    async fn launch(
        &self,
        bundle: &Bundle,
        container: &Container,
        request: &CreateTask,
    ) -> Result<Arc<Task>, TaskError> {
        let served = self.served_already(bundle, container, request)?;
        let program = match &served {
            Some((Some(program), _)) => program.clone(),
            _ => {
                let runtime = if request.runtime.is_empty() { &container.runtime } else { &request.runtime };
                self.shared.config.runtimes.resolve(runtime).map_err(TaskError::Runtime)?
            }
        };
        let given = request.options.as_ref().filter(|options| !options.value.is_empty());
        let options = given.or(container.runtime_options.as_ref());
        bundle.write_shim(&program)?;
        hit(Point::TaskCreateBundle);
        let pump = shimlog::pump(bundle);
        let endpoint = match served {
            Some((_, endpoint)) => endpoint,
            None => match self.shared.launcher.start(&program, bundle, options).await {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    pump.abort();
                    return Err(TaskError::Start(error));
                }
            },
        };
        let made = async {
            hit(Point::TaskCreateShim);
            bundle.write_endpoint(&endpoint)?;
            let client = ShimClient::connect(&endpoint, &bundle.namespace, &bundle.id)
                .await
                .map_err(TaskError::Connect)?;
            let stdio = request.stdio.clone();
            let create = CreateTaskRequest {
                id: bundle.id.clone(),
                bundle: bundle.path.to_string_lossy().into_owned(),
                rootfs: request.rootfs.clone(),
                terminal: stdio.terminal,
                stdin: stdio.stdin.clone(),
                stdout: stdio.stdout.clone(),
                stderr: stdio.stderr.clone(),
                checkpoint: request.origin.path(bundle),
                parent_checkpoint: String::new(),
                options: options.cloned(),
            };
            let asked = SystemTime::now();
            match client.call::<_, CreateTaskResponse>("Create", &create, limits::CREATE).await {
                Ok(answer) => {
                    hit(Point::TaskCreateTold);
                    let init = Process::new(answer.pid, Phase::Created, stdio).not_before(asked);
                    let (bundle, program) = (bundle.clone(), program.clone());
                    Ok(Task::new(bundle, program, endpoint, Link::Up(client), init))
                }
                Err(error) => {
                    give_up(&client, bundle).await;
                    Err(TaskError::Create(error))
                }
            }
        };
        match made.await {
            Ok(task) => {
                task.keep_log(pump);
                Ok(task)
            }
            Err(error) => {
                // whatever the shim made outside of the bundle, a second process of it removes
                if let Err(error) = self.shared.launcher.delete(&program, bundle).await {
                    tracing::debug!(id = bundle.id, namespace = bundle.namespace, %error, "shim clean-up failed");
                }
                pump.abort();
                Err(error)
            }
        }
    }
}

/// Ends a shim whose task could not be created.
async fn give_up(client: &ShimClient, bundle: &Bundle) {
    let delete = DeleteRequest { id: bundle.id.clone(), exec_id: String::new() };
    let shutdown = ShutdownRequest { id: bundle.id.clone(), now: false };
    // it may know nothing of the task, and it may be gone before it answers: both are what is wanted
    let _ = client.call::<_, DeleteResponse>("Delete", &delete, limits::SHUTDOWN).await;
    let _ = client.call::<_, ()>("Shutdown", &shutdown, limits::SHUTDOWN).await;
}

/// Works on a bundle's files off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    bundle: &Bundle,
    work: impl FnOnce(&Bundle) -> Result<T, BundleError> + Send + 'static,
) -> Result<T, TaskError> {
    let bundle = bundle.clone();
    match spawn_blocking(move || work(&bundle)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(TaskError::Interrupted),
    }
}
