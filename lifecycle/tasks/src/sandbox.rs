//! Sandboxes: shims that hold a group of containers, through `containerd.runtime.sandbox.v1.Sandbox`.
//!
//! A sandbox's bundle is beside the tasks' bundles, in a folder of its own, so that finding one kind again after a
//! restart never takes it for the other.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};

use futures_util::future::join_all;
use prost::Message;
use prost_types::Any;
use tokio::sync::watch;
use tokio::time::timeout;
use wharf_containerd::containerd::events::{SandboxCreate, SandboxExit, SandboxStart};
use wharf_containerd::containerd::runtime::sandbox::v1 as wire;
use wharf_containerd::containerd::types::{Metric, Mount, Platform};
use wharf_containerd::to_any;
use wharf_vocab::Identifier;

use crate::bundle::{self, Bundle};
use crate::client::{CallError, ShimClient, means_dead};
use crate::create::blocking;
use crate::endpoint::Endpoint;
use crate::error::TaskError;
use crate::limits;
use crate::process::Exit;
use crate::recovery::RecoverError;
use crate::shimlog;
use crate::supervise::now;
use crate::tasks::Tasks;

/// Beside the tasks' folder, as containerd names its controller.
const FOLDER: &str = "io.containerd.sandbox.controller.v1.shim";
const SERVICE: &str = "containerd.runtime.sandbox.v1.Sandbox";
/// The status of a sandbox whose shim died.
const DIED: u32 = 255;

/// What to create.
#[derive(Debug, Clone, Default)]
pub struct CreateSandbox {
    pub namespace: String,
    pub id: String,
    /// The shim's runtime name or path.
    pub runtime: String,
    pub runtime_options: Option<Any>,
    /// The OCI spec as JSON, for the bundle.
    pub spec: Option<Any>,
    pub rootfs: Vec<Mount>,
    /// For the shim as they are.
    pub options: Option<Any>,
    pub netns: String,
    pub annotations: HashMap<String, String>,
}

/// A sandbox that runs.
#[derive(Debug, Clone)]
pub struct StartedSandbox {
    pub pid: u32,
    pub created_at: Option<prost_types::Timestamp>,
    pub spec: Option<Any>,
    /// Where its shim's task API is, and of which version.
    pub address: String,
    pub version: u32,
}

/// By namespace and id; `None` while one is being made.
pub(crate) type Registry = HashMap<(String, String), Option<Arc<Sandbox>>>;

/// A sandbox and its shim.
pub(crate) struct Sandbox {
    bundle: Bundle,
    pub(crate) program: PathBuf,
    pub(crate) endpoint: Endpoint,
    client: ShimClient,
    /// How it ended, once it has.
    exit: watch::Sender<Option<Exit>>,
    pump: tokio::task::AbortHandle,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Sandbox {
    fn id(&self) -> String {
        self.bundle.id.clone()
    }
}

impl Tasks {
    fn sandboxes(&self) -> MutexGuard<'_, Registry> {
        self.shared.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sandbox(&self, namespace: &str, id: &str) -> Result<Arc<Sandbox>, TaskError> {
        let found = self.sandboxes().get(&(namespace.to_owned(), id.to_owned())).cloned().flatten();
        found.ok_or_else(|| TaskError::NoSandbox(id.into()))
    }

    fn sandbox_bundle(&self, namespace: &str, id: &str) -> Bundle {
        let config = &self.shared.config;
        Bundle::at(&config.root.with_file_name(FOLDER), &config.state.with_file_name(FOLDER), namespace, id)
    }

    /// Starts a shim and has it create the sandbox. It is created even if the caller loses patience.
    pub async fn create_sandbox(&self, request: CreateSandbox) -> Result<(), TaskError> {
        let tasks = self.clone();
        tokio::spawn(async move { tasks.create_sandbox_now(request).await })
            .await
            .unwrap_or(Err(TaskError::Interrupted))
    }

    async fn create_sandbox_now(&self, request: CreateSandbox) -> Result<(), TaskError> {
        Identifier::parse(&request.id)
            .map_err(|source| TaskError::SandboxId { id: request.id.clone(), source })?;
        let key = (request.namespace.clone(), request.id.clone());
        {
            let mut known = self.sandboxes();
            if known.contains_key(&key) {
                return Err(TaskError::SandboxExists(request.id));
            }
            known.insert(key.clone(), None);
        }
        let bundle = self.sandbox_bundle(&request.namespace, &request.id);
        match self.launch_sandbox(&bundle, &request).await {
            Ok(sandbox) => {
                let sandbox = Arc::new(sandbox);
                self.sandboxes().insert(key, Some(sandbox.clone()));
                self.watch_sandbox(sandbox);
                let event = SandboxCreate { sandbox_id: request.id };
                self.tell_of(&request.namespace, "create", "containerd.events.SandboxCreate", &event);
                Ok(())
            }
            Err(error) => {
                if let Err(error) = blocking(&bundle, Bundle::remove).await {
                    tracing::error!(id = bundle.id, namespace = bundle.namespace, %error, "failed to remove bundle");
                }
                self.sandboxes().remove(&key);
                Err(error)
            }
        }
    }

    async fn launch_sandbox(&self, bundle: &Bundle, request: &CreateSandbox) -> Result<Sandbox, TaskError> {
        let program = self.shared.config.runtimes.resolve(&request.runtime).map_err(TaskError::Runtime)?;
        let spec = request.spec.as_ref().map(|any| any.value.clone());
        let fresh = move |bundle: &Bundle| {
            if bundle.path.exists() {
                bundle.remove()?;
            }
            bundle.create(spec.as_deref())
        };
        blocking(bundle, fresh).await?;
        bundle.write_shim(&program)?;
        let pump = shimlog::pump(bundle);
        let options = request.runtime_options.as_ref();
        let endpoint = match self.shared.launcher.start(&program, bundle, options).await {
            Ok(endpoint) => endpoint,
            Err(error) => {
                pump.abort();
                return Err(TaskError::Start(error));
            }
        };
        let made = async {
            bundle.write_endpoint(&endpoint)?;
            let client = connect(&endpoint, bundle).await.map_err(TaskError::Connect)?;
            let create = wire::CreateSandboxRequest {
                sandbox_id: bundle.id.clone(),
                bundle_path: bundle.path.to_string_lossy().into_owned(),
                rootfs: request.rootfs.clone(),
                options: request.options.clone(),
                netns_path: request.netns.clone(),
                annotations: request.annotations.clone(),
            };
            let created =
                client.call::<_, wire::CreateSandboxResponse>("CreateSandbox", &create, limits::CREATE);
            if let Err(error) = created.await {
                let shutdown = wire::ShutdownSandboxRequest { sandbox_id: bundle.id.clone() };
                let _ = client.call::<_, ()>("ShutdownSandbox", &shutdown, limits::SHUTDOWN).await;
                // a shim without the sandbox API ends as one without a task does
                let shutdown = wharf_containerd::containerd::task::v3::ShutdownRequest {
                    id: bundle.id.clone(),
                    now: true,
                };
                if let Ok(task) = ShimClient::connect(&endpoint, &bundle.namespace, &bundle.id).await {
                    let _ = task.call::<_, ()>("Shutdown", &shutdown, limits::SHUTDOWN).await;
                }
                return Err(TaskError::CreateSandbox { id: bundle.id.clone(), source: error });
            }
            Ok(client)
        };
        match made.await {
            Ok(client) => Ok(Sandbox {
                bundle: bundle.clone(),
                program,
                endpoint,
                client,
                exit: watch::Sender::new(None),
                pump,
            }),
            Err(error) => {
                self.clean_up_sandbox(&program, bundle).await;
                pump.abort();
                Err(error)
            }
        }
    }

    /// Starts a sandbox that was created. One that does not start is taken away, as containerd does.
    pub async fn start_sandbox(&self, namespace: &str, id: &str) -> Result<StartedSandbox, TaskError> {
        let sandbox = self.sandbox(namespace, id)?;
        let request = wire::StartSandboxRequest { sandbox_id: id.into() };
        let answer =
            sandbox.client.call::<_, wire::StartSandboxResponse>("StartSandbox", &request, limits::CREATE);
        let answer = match answer.await {
            Ok(answer) => answer,
            // it was started before: that one is not to suffer
            Err(error) if error.kind() == wharf_kinds::Kind::FailedPrecondition => return Err(error.into()),
            Err(error) => {
                let _ = self.shutdown_sandbox(namespace, id).await;
                return Err(error.into());
            }
        };
        let event = SandboxStart { sandbox_id: id.into() };
        self.tell_of(namespace, "start", "containerd.events.SandboxStart", &event);
        Ok(StartedSandbox {
            pid: answer.pid,
            created_at: answer.created_at,
            spec: answer.spec,
            address: sandbox.endpoint.api_text(),
            version: sandbox.endpoint.version,
        })
    }

    /// The platform of the sandbox's containers.
    pub async fn sandbox_platform(&self, namespace: &str, id: &str) -> Result<Option<Platform>, TaskError> {
        let sandbox = self.sandbox(namespace, id)?;
        let request = wire::PlatformRequest { sandbox_id: id.into() };
        let answer: wire::PlatformResponse = sandbox.client.call("Platform", &request, limits::QUICK).await?;
        Ok(answer.platform)
    }

    /// Ends a sandbox's containers, by force after `seconds`. One that is not there has stopped.
    pub async fn stop_sandbox(&self, namespace: &str, id: &str, seconds: u32) -> Result<(), TaskError> {
        let Ok(sandbox) = self.sandbox(namespace, id) else { return Ok(()) };
        let request = wire::StopSandboxRequest { sandbox_id: id.into(), timeout_secs: seconds };
        let limit = limits::DELETE + std::time::Duration::from_secs(seconds.into());
        match sandbox.client.call::<_, wire::StopSandboxResponse>("StopSandbox", &request, limit).await {
            Err(CallError::Closed) => Ok(()),
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Waits until a sandbox has stopped.
    pub async fn wait_sandbox(&self, namespace: &str, id: &str) -> Result<Exit, TaskError> {
        let mut exit = {
            let sandbox = self.sandbox(namespace, id)?;
            sandbox.exit.subscribe()
        };
        let exit = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        exit.ok_or_else(|| TaskError::NoSandbox(id.into()))
    }

    /// What the shim says of a sandbox, and where its task API is.
    pub async fn sandbox_status(
        &self,
        namespace: &str,
        id: &str,
        verbose: bool,
    ) -> Result<(wire::SandboxStatusResponse, Endpoint), TaskError> {
        let sandbox = self.sandbox(namespace, id)?;
        let request = wire::SandboxStatusRequest { sandbox_id: id.into(), verbose };
        let answer = sandbox.client.call("SandboxStatus", &request, limits::QUICK).await?;
        Ok((answer, sandbox.endpoint.clone()))
    }

    /// What a sandbox uses.
    pub async fn sandbox_metrics(&self, namespace: &str, id: &str) -> Result<Option<Metric>, TaskError> {
        let sandbox = self.sandbox(namespace, id)?;
        let request = wire::SandboxMetricsRequest { sandbox_id: id.into() };
        let answer: wire::SandboxMetricsResponse =
            sandbox.client.call("SandboxMetrics", &request, limits::STATS).await?;
        Ok(answer.metrics)
    }

    /// Ends a sandbox's shim and removes what it leaves.
    pub async fn shutdown_sandbox(&self, namespace: &str, id: &str) -> Result<(), TaskError> {
        let sandbox = self.sandbox(namespace, id)?;
        let request = wire::ShutdownSandboxRequest { sandbox_id: id.into() };
        match sandbox.client.call::<_, ()>("ShutdownSandbox", &request, limits::DELETE).await {
            // a shim may be gone before it has answered
            Ok(()) | Err(CallError::Closed) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let gone = timeout(limits::SHUTDOWN, sandbox.client.closed()).await;
        if gone.is_err() {
            tracing::warn!(id, namespace, "sandbox's shim does not end and may be left behind");
        }
        sandbox.exit.send_if_modified(|exit| {
            let first = exit.is_none();
            exit.get_or_insert(Exit { pid: 0, status: 0, at: Some(now()) });
            first
        });
        self.clean_up_sandbox(&sandbox.program, &sandbox.bundle).await;
        blocking(&sandbox.bundle, Bundle::remove).await?;
        self.sandboxes().remove(&(namespace.to_owned(), id.to_owned()));
        Ok(())
    }

    async fn clean_up_sandbox(&self, program: &std::path::Path, bundle: &Bundle) {
        if let Err(error) = self.shared.launcher.delete(program, bundle).await {
            tracing::debug!(id = bundle.id, namespace = bundle.namespace, %error, "shim clean-up failed");
        }
    }

    /// Waits for the end of a sandbox and tells of it once.
    fn watch_sandbox(&self, sandbox: Arc<Sandbox>) {
        let tasks = self.clone();
        tokio::spawn(async move {
            let request = wire::WaitSandboxRequest { sandbox_id: sandbox.id() };
            let answer =
                sandbox.client.call_unbounded::<_, wire::WaitSandboxResponse>("WaitSandbox", &request).await;
            let exit = match answer {
                Ok(answer) => Exit { pid: 0, status: answer.exit_status, at: answer.exited_at },
                Err(_) => {
                    // a shim that cannot tell is heard of when it goes
                    sandbox.client.closed().await;
                    Exit { pid: 0, status: DIED, at: Some(now()) }
                }
            };
            let exit = *sandbox.exit.borrow().as_ref().unwrap_or(&exit);
            sandbox.exit.send_replace(Some(exit));
            let event =
                SandboxExit { sandbox_id: sandbox.id(), exit_status: exit.status, exited_at: exit.at };
            tasks.tell_of(&sandbox.bundle.namespace, "exit", "containerd.events.SandboxExit", &event);
        });
    }

    fn tell_of<M: Message>(&self, namespace: &str, what: &str, name: &str, event: &M) {
        let topic = format!("/sandboxes/{what}");
        if let Err(error) = self.shared.exchange.publish(namespace, &topic, to_any(name, event)) {
            tracing::error!(namespace, topic, %error, "failed to publish event");
        }
    }

    /// Finds the sandboxes again. One whose shim is gone is cleaned up after and forgotten.
    pub(crate) async fn recover_sandboxes(&self) -> Result<(), RecoverError> {
        let state = self.shared.config.state.with_file_name(FOLDER);
        let mut bundles = Vec::new();
        for namespace in bundle::folders(&state)? {
            bundle::sweep_hidden(&state.join(&namespace));
            let ids = bundle::folders(&state.join(&namespace))?;
            bundles.extend(ids.iter().map(|id| self.sandbox_bundle(&namespace, id)));
        }
        join_all(bundles.into_iter().map(|bundle| self.find_sandbox(bundle))).await;
        Ok(())
    }

    async fn find_sandbox(&self, bundle: Bundle) {
        let key = (bundle.namespace.clone(), bundle.id.clone());
        let (program, endpoint) = (bundle.shim(), bundle.endpoint());
        if let (Some(program), Some(endpoint)) = (&program, endpoint) {
            match connect(&endpoint, &bundle).await {
                Ok(client) => {
                    let pump = shimlog::pump(&bundle);
                    let exit = watch::Sender::new(None);
                    let program = program.clone();
                    let sandbox = Arc::new(Sandbox { bundle, program, endpoint, client, exit, pump });
                    self.sandboxes().insert(key, Some(sandbox.clone()));
                    self.watch_sandbox(sandbox);
                    return;
                }
                Err(error) if !means_dead(&error) => {
                    tracing::error!(id = key.1, namespace = key.0, %error, "sandbox's shim cannot be reached");
                    return;
                }
                Err(_) => {}
            }
        }
        tracing::info!(id = key.1, namespace = key.0, "cleaning up after dead sandbox");
        let tasks = self.clone();
        tokio::spawn(async move {
            if let Some(program) = program {
                tasks.clean_up_sandbox(&program, &bundle).await;
                let event =
                    SandboxExit { sandbox_id: key.1.clone(), exit_status: DIED, exited_at: Some(now()) };
                tasks.tell_of(&key.0, "exit", "containerd.events.SandboxExit", &event);
            }
            if let Err(error) = blocking(&bundle, Bundle::remove).await {
                tracing::error!(id = key.1, namespace = key.0, %error, "failed to remove bundle");
            }
        });
    }
}

async fn connect(endpoint: &Endpoint, bundle: &Bundle) -> std::io::Result<ShimClient> {
    ShimClient::connect_to(SERVICE, endpoint, &bundle.namespace, &bundle.id).await
}
