//! The engine: what the API calls. Listing and inspecting read memory; everything that changes a container goes
//! through its mailbox.

use std::sync::Arc;
use std::time::Duration;

use engine_backend::Backend;
use wharf_docker::container::{ExecCreate, ExecInspect, Words};
use wharf_docker::time::Time;
use wharf_kinds::Kind;

use crate::config::EngineConfig;
use crate::container::actor::{Command, Purpose};
use crate::container::attach::AttachClient;
use crate::container::exec::{self, ExecCell, ExecPhase, ExecRecord};
use crate::container::phase::Phase;
use crate::container::record::Record;
use crate::container::relay::Relays;
use crate::container::view::{Handle, View, WaitFor, Waiter};
use crate::error::EngineError;
use crate::events::EventBus;
use crate::image::ImageSource;
use crate::lifecycle::Lifecycle;
use crate::records::Records;
use crate::registry::Registry;
use crate::usage::ImageUsage;
use crate::volume::Volumes;
use crate::{names, signal};

/// What the engine and the mailboxes share.
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) lifecycle: Arc<dyn Lifecycle>,
    pub(crate) images: Arc<dyn ImageSource>,
    pub(crate) records: Records,
    pub(crate) registry: Arc<Registry>,
    pub(crate) events: EventBus,
    pub(crate) usage: ImageUsage,
    pub(crate) volumes: Volumes,
    pub(crate) host: wharf_oci::Host,
    pub(crate) relays: Relays,
}

/// The engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    /// What is not about one container: snapshots' sizes, versions, reconciling. None in tests.
    pub(crate) backend: Option<Backend>,
}

/// What an engine is made of.
pub struct Parts {
    pub config: EngineConfig,
    pub lifecycle: Arc<dyn Lifecycle>,
    pub backend: Option<Backend>,
    pub images: Arc<dyn ImageSource>,
    pub records: Records,
    pub events: EventBus,
    pub usage: ImageUsage,
}

/// How long a kill may take to be seen as an exit.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Loads every record; containers are listed from now on, and reconciled once the lifecycle daemon is there.
    /// Must be called within a tokio runtime.
    pub fn new(parts: Parts) -> Result<Self, EngineError> {
        let Parts { config, lifecycle, backend, images, records, events, usage } = parts;
        for dir in ["containers", "volumes"] {
            let dir = config.data_root.join(dir);
            std::fs::create_dir_all(&dir)
                .map_err(|e| EngineError::host(format!("make {}", dir.display()), e))?;
        }
        let host = wharf_oci::Host::detect().map_err(|e| EngineError::Internal(e.to_string()))?;
        let volumes = Volumes::load(&records)?;
        let shared = Arc::new(Shared {
            config,
            lifecycle,
            images,
            registry: Arc::new(Registry::default()),
            events,
            usage,
            volumes,
            host,
            relays: Relays::default(),
            records,
        });
        for record in shared.records.execs()? {
            shared.registry.insert_exec(Arc::new(ExecCell::new(record)));
        }
        for record in shared.records.containers()? {
            if record.phase.run().is_some()
                && let Err(error) = crate::plan::relay(&shared, &record)
            {
                tracing::error!(container = record.id, %error, "container's output is not read");
            }
            crate::container::actor::spawn(&shared, record, None, None);
        }
        Ok(Self { shared, backend })
    }

    /// The engine's settings.
    pub fn config(&self) -> &EngineConfig {
        &self.shared.config
    }

    /// The event bus.
    pub fn events(&self) -> &EventBus {
        &self.shared.events
    }

    /// The volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.shared.volumes
    }

    /// The engine's own id.
    pub fn engine_id(&self) -> Result<String, EngineError> {
        Ok(self.shared.records.engine_id()?)
    }

    /// Finds a container by id, name or beginning of an id.
    pub fn find(&self, wanted: &str) -> Result<Handle, EngineError> {
        self.shared.registry.find(wanted)
    }

    /// Pictures of every container, newest first.
    pub fn views(&self) -> Vec<Arc<View>> {
        let mut views: Vec<_> = self.shared.registry.all().iter().map(Handle::view).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.record.created));
        views
    }

    /// Starts a container; NotModified if it runs.
    pub async fn start(&self, wanted: &str) -> Result<(), EngineError> {
        self.find(wanted)?.ask(|reply| Command::Start { fresh: true, reply }).await
    }

    /// Asks a container to end by its stop signal (or `signal`), and kills it after `seconds` (negative: never).
    pub async fn stop(&self, wanted: &str, signal: &str, seconds: Option<i64>) -> Result<(), EngineError> {
        let handle = self.find(wanted)?;
        let record = handle.view().record.clone();
        if !record.phase.counts_as_running() {
            return Err(EngineError::NotModified("container is already stopped".to_owned()));
        }
        self.end(&handle, &record, signal, seconds, Purpose::Person).await?;
        exec::event(&self.shared, &handle.id, "stop", &[]);
        Ok(())
    }

    async fn end(
        &self,
        handle: &Handle,
        record: &Record,
        signal: &str,
        seconds: Option<i64>,
        purpose: Purpose,
    ) -> Result<(), EngineError> {
        let signal = match (signal, record.config.stop_signal.as_str()) {
            ("", "") => signal::TERM,
            ("", own) => signal::parse(own)?,
            (asked, _) => signal::parse(asked)?,
        };
        let default = record.config.stop_timeout.unwrap_or(self.shared.config.default_stop_timeout);
        let seconds = seconds.unwrap_or(default);
        let limit = u64::try_from(seconds).ok().map(Duration::from_secs);
        match handle.ask(|reply| Command::Signal { signal, purpose, reply }).await {
            Ok(()) => {}
            Err(EngineError::NotRunning(_) | EngineError::NoSuchContainer(_)) => return Ok(()),
            Err(error) if error.kind() == Kind::Unavailable => return Err(error),
            Err(error) => {
                // a signal the runtime does not take still leaves the kill
                tracing::warn!(container = handle.id, %error, "cannot send the stop signal");
            }
        }
        if handle.stopped_within(limit).await {
            return Ok(());
        }
        self.kill_hard(handle, purpose).await
    }

    async fn kill_hard(&self, handle: &Handle, purpose: Purpose) -> Result<(), EngineError> {
        match handle.ask(|reply| Command::Signal { signal: signal::KILL, purpose, reply }).await {
            Ok(()) => {}
            Err(EngineError::NotRunning(_) | EngineError::NoSuchContainer(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        if handle.stopped_within(Some(KILL_PATIENCE)).await {
            return Ok(());
        }
        Err(EngineError::Internal("tried to kill container, but did not receive an exit event".to_owned()))
    }

    /// Sends a signal; with KILL (the default) returns when the container has ended.
    pub async fn kill(&self, wanted: &str, signal: &str) -> Result<(), EngineError> {
        let signal = if signal.is_empty() { signal::KILL } else { signal::parse(signal)? };
        let handle = self.find(wanted)?;
        if signal == signal::KILL {
            if !handle.view().record.phase.counts_as_running() {
                return Err(EngineError::NotRunning(handle.id.clone()));
            }
            return self.kill_hard(&handle, Purpose::Person).await;
        }
        handle.ask(|reply| Command::Signal { signal, purpose: Purpose::Person, reply }).await
    }

    /// Stops the container if it runs, and starts it.
    pub async fn restart(&self, wanted: &str, signal: &str, seconds: Option<i64>) -> Result<(), EngineError> {
        let handle = self.find(wanted)?;
        let record = handle.view().record.clone();
        if record.phase.counts_as_running()
            && let Err(error) = self.end(&handle, &record, signal, seconds, Purpose::Restart).await
        {
            let _ = handle.mailbox.send(Command::Unhold).await;
            return Err(error);
        }
        match handle.ask(|reply| Command::Start { fresh: true, reply }).await {
            Ok(()) | Err(EngineError::NotModified(_)) => {}
            Err(error) => return Err(error),
        }
        exec::event(&self.shared, &handle.id, "restart", &[]);
        Ok(())
    }

    /// Freezes every process of the container.
    pub async fn pause(&self, wanted: &str) -> Result<(), EngineError> {
        self.find(wanted)?.ask(|reply| Command::Pause { reply }).await
    }

    /// Thaws them.
    pub async fn unpause(&self, wanted: &str) -> Result<(), EngineError> {
        self.find(wanted)?.ask(|reply| Command::Unpause { reply }).await
    }

    /// Gives the container another name.
    pub async fn rename(&self, wanted: &str, name: &str) -> Result<(), EngineError> {
        if wanted.is_empty() || name.is_empty() {
            return Err(EngineError::Invalid("Neither old nor new names may be empty".to_owned()));
        }
        let handle = self.find(wanted)?;
        let name = names::check(name)?;
        if handle.view().record.name == name {
            let text = "Renaming a container with the same name as its current name".to_owned();
            return Err(EngineError::Invalid(text));
        }
        let claim = self.shared.registry.claim_name(name, &handle.id)?;
        handle.ask(|reply| Command::Rename { claim, reply }).await
    }

    /// Removes a container; `force` kills it first, `volumes` removes its anonymous volumes too.
    pub async fn remove(&self, wanted: &str, force: bool, volumes: bool) -> Result<(), EngineError> {
        let handle = self.find(wanted)?;
        let record = handle.view().record.clone();
        if record.phase.counts_as_running() && !force {
            let why = match record.phase.word() {
                "paused" => "container is paused and must be unpaused first".to_owned(),
                word => format!("container is {word}: stop the container before removing or force remove"),
            };
            return Err(EngineError::Conflict(format!(
                "cannot remove container \"/{}\": {why}",
                record.name
            )));
        }
        handle.ask(|reply| Command::BeginRemoval { reply }).await?;
        let removed = async {
            if record.phase.counts_as_running() {
                self.kill_hard(&handle, Purpose::Person).await?;
            }
            handle.ask(|reply| Command::Remove { volumes, reply }).await
        }
        .await;
        match removed {
            Ok(()) | Err(EngineError::NoSuchContainer(_)) => Ok(()),
            Err(error) => {
                let _ = handle.mailbox.send(Command::AbandonRemoval { why: error.to_string() }).await;
                Err(error)
            }
        }
    }

    /// Begins to wait. What happens after this call is seen.
    pub fn wait(&self, wanted: &str, until: WaitFor) -> Result<Waiter, EngineError> {
        Ok(self.find(wanted)?.waiter(until))
    }

    /// Whether a client may be attached now; done before its connection is upgraded.
    pub fn check_attach(&self, wanted: &str) -> Result<Arc<View>, EngineError> {
        let view = self.find(wanted)?.view();
        let record = &view.record;
        match &record.phase {
            Phase::Running(run) if run.paused => Err(EngineError::Conflict(format!(
                "container {} is paused, unpause the container before attach",
                record.id
            ))),
            Phase::Restarting { .. } => Err(EngineError::Conflict(format!(
                "container {} is restarting, wait until the container is running",
                record.id
            ))),
            _ => Ok(view),
        }
    }

    /// Gives a client to the container: to its shim now, or when it starts.
    pub async fn attach(&self, id: &str, client: AttachClient) -> Result<(), EngineError> {
        let handle = self.find(id)?;
        handle
            .mailbox
            .send(Command::Attach(client))
            .await
            .map_err(|_| EngineError::NoSuchContainer(id.to_owned()))
    }

    /// Sets the size of the container's terminal, in characters.
    pub async fn resize(&self, wanted: &str, height: u32, width: u32) -> Result<(), EngineError> {
        let handle = self.find(wanted)?;
        if handle.view().record.phase.run().is_none() {
            return Err(EngineError::NotRunning(handle.id));
        }
        self.shared.lifecycle.resize(&handle.id, "", width, height).await?;
        let size = [("height", height.to_string()), ("width", width.to_string())];
        exec::event(&self.shared, &handle.id, "resize", &size);
        Ok(())
    }

    /// Makes an exec; it does not run yet.
    pub async fn exec_create(
        &self,
        wanted: &str,
        mut request: ExecCreate,
        detach_keys: Vec<u8>,
    ) -> Result<String, EngineError> {
        let handle = self.find(wanted)?;
        exec::check_container(&handle.view().record)?;
        let words = request.cmd.get_or_insert_with(Words::default).0.join(" ");
        if words.is_empty() {
            return Err(EngineError::Invalid("No exec command specified".to_owned()));
        }
        self.forget_old_execs(&handle.id).await;
        let record = ExecRecord {
            id: crate::id::new_id(),
            container_id: handle.id.clone(),
            created: Time::now(),
            request,
            detach_keys,
            phase: ExecPhase::Created,
        };
        self.shared.records.put_exec(&record).await?;
        let id = record.id.clone();
        self.shared.registry.insert_exec(Arc::new(ExecCell::new(record)));
        exec::event(&self.shared, &handle.id, &format!("exec_create: {words}"), &[("execID", id.clone())]);
        Ok(id)
    }

    async fn forget_old_execs(&self, container_id: &str) {
        let stale: Vec<String> = self
            .shared
            .registry
            .execs_of(container_id)
            .iter()
            .filter(|exec| exec.is_stale())
            .map(|exec| exec.id().to_owned())
            .collect();
        if stale.is_empty() {
            return;
        }
        for id in &stale {
            self.shared.registry.remove_exec(id);
        }
        if let Err(error) = self.shared.records.delete_execs(container_id, stale).await {
            tracing::warn!(container = container_id, %error, "old execs were not forgotten");
        }
    }

    /// An exec by its id.
    pub fn exec(&self, id: &str) -> Result<Arc<ExecCell>, EngineError> {
        self.shared.registry.exec(id)
    }

    /// What inspect shows of an exec.
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect, EngineError> {
        let cell = self.exec(id)?;
        cell.settle(&self.shared).await;
        Ok(cell.inspect())
    }

    /// Whether an exec may be started now; done before a connection is upgraded.
    pub fn check_exec(&self, id: &str) -> Result<Arc<ExecCell>, EngineError> {
        let cell = self.exec(id)?;
        let handle = self.find(cell.container_id())?;
        exec::check_container(&handle.view().record)?;
        match cell.record().phase {
            ExecPhase::Created => Ok(cell),
            ExecPhase::Exited { .. } => {
                Err(EngineError::Conflict(format!("exec command {id} has already run")))
            }
            _ => Err(EngineError::Conflict(format!("exec command {id} is already running"))),
        }
    }

    /// Runs an exec. Execs of one container do not wait for each other.
    pub async fn exec_start(
        &self,
        id: &str,
        client: Option<AttachClient>,
        console_size: Option<(u32, u32)>,
    ) -> Result<(), EngineError> {
        let cell = self.exec(id)?;
        let handle = self.find(cell.container_id())?;
        let record = handle.view().record.clone();
        let shared = self.shared.clone();
        // goes on if the client goes away meanwhile
        let work = tokio::spawn(async move { cell.start(&shared, record, client, console_size).await });
        work.await.map_err(|error| EngineError::Internal(error.to_string()))?
    }

    /// Sets the size of an exec's terminal, in characters.
    pub async fn exec_resize(&self, id: &str, height: u32, width: u32) -> Result<(), EngineError> {
        let cell = self.exec(id)?;
        if !cell.is_running() {
            return Err(EngineError::NotRunning(format!("exec {id}")));
        }
        Ok(self.shared.lifecycle.resize(cell.container_id(), id, width, height).await?)
    }

    /// Removes containers that do not run and that the filter lets through; answers their ids.
    pub async fn prune(&self, chosen: impl Fn(&Record) -> bool) -> Vec<String> {
        let mut removed = Vec::new();
        for view in self.views() {
            let at_rest = matches!(
                view.record.phase,
                Phase::Created { .. } | Phase::Exited { .. } | Phase::Dead { .. }
            );
            if at_rest && chosen(&view.record) {
                match self.remove(&view.record.id, false, false).await {
                    Ok(()) => removed.push(view.record.id.clone()),
                    Err(error) => {
                        tracing::warn!(container = view.record.id, %error, "container was not pruned")
                    }
                }
            }
        }
        removed
    }

    /// Bytes of the container's writable layer, and of the whole root.
    pub async fn sizes(&self, id: &str) -> Result<(u64, u64), EngineError> {
        let Some(backend) = &self.backend else { return Ok((0, 0)) };
        let own = backend.snapshot_usage(id).await?.size;
        let mut all = own;
        let mut parent = backend.snapshot_stat(id).await?.parent;
        // bounded: no image has more layers than an overlay can stack
        for _ in 0..512 {
            if parent.is_empty() {
                break;
            }
            all += backend.snapshot_usage(&parent).await?.size;
            parent = backend.snapshot_stat(&parent).await?.parent;
        }
        Ok((own, all))
    }
}

#[cfg(test)]
#[path = "engine/tests.rs"]
mod tests;
