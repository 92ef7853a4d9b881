//! One mailbox per container: everything that changes a container happens here, one thing after another.
//!
//! Nothing in here waits for a person or for a process to end. Stopping, restarting and removing by force are made of
//! several commands by the engine, which waits between them on the container's picture.

use std::sync::Arc;
use std::time::SystemTime;

use engine_backend::{Exit, Mount, ProcessStatus};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::attach::AttachClient;
use super::phase::Phase;
use super::record::Record;
use super::restart::Pauses;
use super::view::{Handle, View};
use crate::engine::Shared;
use crate::error::EngineError;
use crate::registry::NameClaim;
use crate::usage::ImageUser;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// What can be asked of a container.
pub enum Command {
    /// `fresh`: a person asked, so counters begin anew.
    Start {
        fresh: bool,
        reply: Reply<()>,
    },
    Signal {
        signal: u32,
        purpose: Purpose,
        reply: Reply<()>,
    },
    Pause {
        reply: Reply<()>,
    },
    Unpause {
        reply: Reply<()>,
    },
    Rename {
        claim: NameClaim,
        reply: Reply<()>,
    },
    /// Nothing may start it any more. Fails if removal has begun already.
    BeginRemoval {
        reply: Reply<()>,
    },
    AbandonRemoval {
        why: String,
    },
    Remove {
        volumes: bool,
        reply: Reply<()>,
    },
    Attach(AttachClient),
    Update {
        change: Box<dyn FnOnce(&mut Record) + Send>,
        reply: Reply<()>,
    },
    /// The end of a restart is done: exits mean what they say again.
    Unhold,
    Exited {
        pid: u32,
        exit: Exit,
    },
    OutOfMemory,
    /// What the lifecycle daemon's list said, after a reconnection; None if it has no such task.
    Reconcile {
        listed: Option<(u32, ProcessStatus)>,
        boot: bool,
    },
}

/// Why a signal is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `docker kill`, `docker stop`: it is not to be restarted if the signal is meant to end it.
    Person,
    /// First half of a restart: the exit neither removes it nor counts as stopped.
    Restart,
}

/// Commands waiting in a mailbox before senders wait.
const MAILBOX: usize = 64;

pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) record: Record,
    pub(super) mailbox: mpsc::Receiver<Command>,
    pub(super) view: watch::Sender<Arc<View>>,
    /// Mounts of the root, once known.
    pub(super) rootfs: Option<Vec<Mount>>,
    /// The spec the lifecycle daemon has.
    pub(super) spec: Option<Vec<u8>>,
    /// The lifecycle daemon may have a task of this container.
    pub(super) may_have_task: bool,
    /// Clients that came before the start.
    pub(super) waiting: Vec<AttachClient>,
    pub(super) pauses: Pauses,
    /// A person stopped this run.
    pub(super) cancelled: bool,
    /// A restart by a person is under way.
    pub(super) held: bool,
    pub(super) restart_at: Option<Instant>,
    pub(super) removing: bool,
    pub(super) removed: bool,
    pub(super) removal_error: Option<String>,
    pub(super) exits: u64,
    pub(super) last_exit: i64,
}

/// Puts a container into the registry and starts its mailbox.
pub(crate) fn spawn(
    shared: &Arc<Shared>,
    record: Record,
    rootfs: Option<Vec<Mount>>,
    spec: Option<Vec<u8>>,
) -> Handle {
    let (send, mailbox) = mpsc::channel(MAILBOX);
    let picture = View {
        record: Arc::new(record.clone()),
        removing: false,
        removed: false,
        exits: 0,
        last_exit: 0,
        removal_error: None,
        execs: Vec::new(),
    };
    let (view, watch) = watch::channel(Arc::new(picture));
    let handle = Handle { id: record.id.clone(), mailbox: send, view: watch };
    shared.registry.insert(handle.clone(), &record.name);
    let actor = Actor {
        shared: shared.clone(),
        record,
        mailbox,
        view,
        may_have_task: spec.is_none(),
        rootfs,
        spec,
        waiting: Vec::new(),
        pauses: Pauses::default(),
        cancelled: false,
        held: false,
        restart_at: None,
        removing: false,
        removed: false,
        removal_error: None,
        exits: 0,
        last_exit: 0,
    };
    actor.show();
    tokio::spawn(actor.run());
    handle
}

impl Actor {
    async fn run(mut self) {
        while !self.removed {
            let wake = self.restart_at;
            tokio::select! {
                command = self.mailbox.recv() => match command {
                    Some(command) => Box::pin(self.act(command)).await,
                    None => return,
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    Box::pin(self.restart()).await;
                }
            }
        }
    }

    async fn act(&mut self, command: Command) {
        // an asker that went away does not stop what was asked
        match command {
            Command::Start { fresh, reply } => {
                let done = self.start(fresh).await;
                let _ = reply.send(done);
            }
            Command::Signal { signal, purpose, reply } => {
                let done = self.signal(signal, purpose).await;
                let _ = reply.send(done);
            }
            Command::Pause { reply } => {
                let done = self.pause().await;
                let _ = reply.send(done);
            }
            Command::Unpause { reply } => {
                let done = self.unpause().await;
                let _ = reply.send(done);
            }
            Command::Rename { claim, reply } => {
                let done = self.rename(claim).await;
                let _ = reply.send(done);
            }
            Command::BeginRemoval { reply } => {
                let done = self.begin_removal();
                let _ = reply.send(done);
            }
            Command::AbandonRemoval { why } => {
                self.removing = false;
                self.removal_error = Some(why);
                self.show();
            }
            Command::Remove { volumes, reply } => {
                let done = self.remove(volumes).await;
                let _ = reply.send(done);
            }
            Command::Attach(client) => self.attach(client),
            Command::Update { change, reply } => {
                change(&mut self.record);
                let done = self.save().await;
                self.show();
                let _ = reply.send(done);
            }
            Command::Unhold => self.held = false,
            Command::Exited { pid, exit } => self.exited(pid, exit).await,
            Command::OutOfMemory => self.out_of_memory().await,
            Command::Reconcile { listed, boot } => self.reconcile(listed, boot).await,
        }
    }

    /// Publishes the present picture.
    pub(super) fn show(&self) {
        let execs = self
            .shared
            .registry
            .execs_of(&self.record.id)
            .iter()
            .filter(|exec| exec.is_running())
            .map(|exec| exec.id().to_owned())
            .collect();
        self.shared.usage.put(ImageUser {
            container_id: self.record.id.clone(),
            container_name: self.record.name.clone(),
            running: self.record.phase.counts_as_running(),
            image_id: self.record.image_id.clone(),
            image_name: self.record.config.image.clone(),
        });
        self.view.send_replace(Arc::new(View {
            record: Arc::new(self.record.clone()),
            removing: self.removing,
            removed: self.removed,
            exits: self.exits,
            last_exit: self.last_exit,
            removal_error: self.removal_error.clone(),
            execs,
        }));
    }

    /// Makes the record durable.
    pub(super) async fn save(&self) -> Result<(), EngineError> {
        Ok(self.shared.records.put_container(&self.record).await?)
    }

    /// Makes the record durable where nobody can be told of a failure.
    /// Whether the record is on disk now; a failure is logged.
    pub(super) async fn save_or_log(&self) -> bool {
        match self.save().await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(container = self.record.id, %error, "container's record was not saved");
                false
            }
        }
    }

    pub(super) fn event(&self, action: &str, extra: &[(&str, String)]) {
        let mut attributes = self.record.attributes();
        attributes.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.shared.events.publish("container", action, &self.record.id, attributes, SystemTime::now());
    }

    async fn signal(&mut self, signal: u32, purpose: Purpose) -> Result<(), EngineError> {
        let id = self.record.id.clone();
        let paused = match &self.record.phase {
            Phase::Running(run) => run.paused,
            Phase::Restarting { .. } => {
                // nothing to signal: not restarting it is all there is to do
                self.end_restarting(purpose).await;
                return Ok(());
            }
            _ => return Err(EngineError::NotRunning(id)),
        };
        let stop_signal = &self.record.config.stop_signal;
        let is_end = signal == crate::signal::KILL
            || stop_signal.is_empty()
            || crate::signal::parse(stop_signal).is_ok_and(|own| own == signal);
        match purpose {
            Purpose::Restart => self.held = true,
            Purpose::Person => {
                self.cancelled |= is_end;
                if !self.record.manually_stopped {
                    self.record.manually_stopped = true;
                    self.save_if_policy_cares().await?;
                }
            }
        }
        match self.shared.lifecycle.kill(&id, "", signal).await {
            Ok(()) => {}
            // it has just ended: the exit is on its way
            Err(error) if error.is_not_found() || gone(error.message()) => {}
            Err(error) => return Err(error.into()),
        }
        if paused && is_end {
            match self.shared.lifecycle.resume(&id).await {
                Ok(()) => self.set_paused(false).await,
                Err(error) => {
                    tracing::warn!(container = id, %error, "cannot unpause the container to end it")
                }
            }
        }
        self.event("kill", &[("signal", signal.to_string())]);
        Ok(())
    }

    /// `manually_stopped` matters to containers with a restart policy only.
    async fn save_if_policy_cares(&self) -> Result<(), EngineError> {
        match self.record.host.restart_policy.name.as_str() {
            "" | "no" => Ok(()),
            _ => self.save().await,
        }
    }

    async fn pause(&mut self) -> Result<(), EngineError> {
        let id = self.record.id.clone();
        match &self.record.phase {
            Phase::Running(run) if run.paused => {
                return Err(EngineError::Conflict(format!("container {id} is already paused")));
            }
            Phase::Running(_) => {}
            Phase::Restarting { .. } => return Err(EngineError::Restarting(id)),
            _ => return Err(EngineError::NotRunning(id)),
        }
        self.shared.lifecycle.pause(&id).await.map_err(|error| match error.kind() {
            wharf_kinds::Kind::Unavailable => error.into(),
            _ => EngineError::Internal(format!("cannot pause container {id}: {error}")),
        })?;
        self.set_paused(true).await;
        Ok(())
    }

    async fn unpause(&mut self) -> Result<(), EngineError> {
        let id = self.record.id.clone();
        match &self.record.phase {
            Phase::Running(run) if run.paused => {}
            _ => return Err(EngineError::Conflict(format!("container {id} is not paused"))),
        }
        self.shared.lifecycle.resume(&id).await.map_err(|error| match error.kind() {
            wharf_kinds::Kind::Unavailable => error.into(),
            _ => EngineError::Internal(format!("cannot resume container {id}: {error}")),
        })?;
        self.set_paused(false).await;
        Ok(())
    }

    pub(super) async fn set_paused(&mut self, paused: bool) {
        let Phase::Running(run) = &mut self.record.phase else { return };
        if run.paused == paused {
            return;
        }
        run.paused = paused;
        self.show();
        self.save_or_log().await;
        self.event(if paused { "pause" } else { "unpause" }, &[]);
    }

    async fn rename(&mut self, claim: NameClaim) -> Result<(), EngineError> {
        if self.removing {
            return Err(EngineError::Conflict(format!("container {} is being removed", self.record.id)));
        }
        let old = std::mem::replace(&mut self.record.name, claim.name().to_owned());
        if let Err(error) = self.save().await {
            self.record.name = old;
            return Err(error);
        }
        claim.keep();
        self.shared.registry.release_name(&old);
        self.show();
        self.event("rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    fn begin_removal(&mut self) -> Result<(), EngineError> {
        if self.removing {
            let text = format!("removal of container {} is already in progress", self.record.id);
            return Err(EngineError::Conflict(text));
        }
        self.removing = true;
        self.removal_error = None;
        self.show();
        Ok(())
    }

    async fn out_of_memory(&mut self) {
        if let Phase::Running(run) = &mut self.record.phase {
            run.oom_killed = true;
            self.show();
            self.save_or_log().await;
        }
        self.event("oom", &[]);
    }
}

/// What runtimes say of a process that has ended.
fn gone(message: &str) -> bool {
    let lower = message.to_lowercase();
    lower.contains("process already finished")
        || lower.contains("no such process")
        || lower.contains("not running")
}
