//! Starting: from a container at rest to a process that runs, or back with nothing left over.

use std::time::{Duration, SystemTime};

use engine_backend::{ContainerRecord, Labels, Mount, ProcessStatus, RuntimeOptions, TaskSpec};
use wharf_docker::time::Time;
use wharf_kinds::Kind;

use super::actor::{Actor, Purpose};
use super::attach;
use super::phase::{Phase, Run};
use super::record::Record;
use crate::config::EngineConfig;
use crate::error::{EngineError, start_failure};
use crate::plan::{self, StdioPlan};

/// How long a task that was not started is given to die when it is taken back.
const TAKE_BACK: Duration = Duration::from_secs(10);

/// The options every task of this engine gets.
pub(crate) fn runtime_options(config: &EngineConfig, record: &Record) -> RuntimeOptions {
    RuntimeOptions {
        binary_name: record.runtime_program.clone(),
        root: crate::config::text(&config.runtime_root()),
        systemd_cgroup: false,
    }
}

/// The lifecycle daemon's record of a container.
pub(crate) fn lifecycle_record(config: &EngineConfig, record: &Record, spec: Vec<u8>) -> ContainerRecord {
    ContainerRecord {
        id: record.id.clone(),
        labels: Labels::new(),
        image: record.image_name.clone(),
        runtime: record.runtime.clone(),
        options: runtime_options(config, record),
        spec,
        snapshot_key: record.id.clone(),
        created_at: SystemTime::UNIX_EPOCH,
    }
}

impl Actor {
    pub(super) async fn start(&mut self, fresh: bool) -> Result<(), EngineError> {
        if self.removing {
            let text = "container is marked for removal and cannot be started";
            return Err(EngineError::Conflict(text.to_owned()));
        }
        match &self.record.phase {
            Phase::Running(run) if run.paused => {
                let text = "cannot start a paused container, try unpause instead";
                return Err(EngineError::Conflict(text.to_owned()));
            }
            Phase::Running(_) => {
                return Err(EngineError::NotModified("container is already running".to_owned()));
            }
            Phase::Restarting { .. } if fresh => {
                return Err(EngineError::NotModified("container is already running".to_owned()));
            }
            Phase::Dead { .. } => {
                let text = "container is marked for removal and cannot be started";
                return Err(EngineError::Conflict(text.to_owned()));
            }
            Phase::Created { .. } | Phase::Exited { .. } | Phase::Restarting { .. } => {}
        }
        if fresh {
            self.pauses.reset();
            self.record.restart_count = 0;
            self.record.manually_stopped = false;
        }
        self.cancelled = false;
        match self.try_start().await {
            Ok(run) => {
                self.record.phase = Phase::Running(run);
                self.record.started_before = true;
                self.held = false;
                self.show();
                self.event("start", &[]);
                self.save_or_log().await;
                Ok(())
            }
            Err(error) => {
                self.start_failed(&error).await;
                Err(error)
            }
        }
    }

    async fn try_start(&mut self) -> Result<Run, EngineError> {
        let id = self.record.id.clone();
        let rootfs = self.rootfs().await?;
        let layers = plan::layer_dirs(&rootfs);
        let planned = plan::start(&self.shared, &self.record, &layers)?;
        let record = lifecycle_record(&self.shared.config, &self.record, planned.spec);
        if self.spec.as_deref() != Some(record.spec.as_slice()) {
            self.shared.lifecycle.set_spec(&record).await?;
            self.spec = Some(record.spec);
        }
        let StdioPlan { stdin, stdout, stderr } = plan::stdio(&self.shared, &self.record)?;
        let started_at = Time::now();
        let task = TaskSpec {
            container_id: id.clone(),
            rootfs,
            stdin,
            stdout,
            stderr,
            terminal: self.record.config.tty,
            options: record.options,
        };
        if self.may_have_task {
            // an earlier run's, whose end was recorded but could not be let go
            self.take_back().await?;
        }
        self.may_have_task = true;
        let started = match self.shared.lifecycle.create_task(&task).await {
            Ok(_) => self.start_created().await,
            // whether it was made cannot be known
            Err(error) if error.kind() == Kind::Unavailable => Err(error.into()),
            Err(error) => {
                self.may_have_task = false;
                return Err(start_failure(&error));
            }
        };
        match started {
            Ok(pid) => Ok(Run { pid, started_at, paused: false, oom_killed: false }),
            Err(error) => {
                self.take_back_or_log().await;
                Err(error)
            }
        }
    }

    /// The task stands: gives it the clients that wait, then lets it go.
    async fn start_created(&mut self) -> Result<u32, EngineError> {
        let id = self.record.id.clone();
        let watch = attach::Watch::container(&self.shared, &self.record);
        for client in self.waiting.drain(..) {
            if let Err(error) = attach::hand_over(client, watch.clone()).await {
                tracing::warn!(container = id, %error, "a client was not attached");
            }
        }
        let pid = self.shared.lifecycle.start(&id, "").await.map_err(|e| start_failure(&e))?;
        if self.record.config.tty && self.record.host.console_size != (0, 0) {
            let (height, width) = self.record.host.console_size;
            if let Err(error) = self.shared.lifecycle.resize(&id, "", width, height).await {
                tracing::debug!(container = id, %error, "terminal keeps its size");
            }
        }
        Ok(pid)
    }

    /// Undoes a task that was created but did not start, or whose start is uncertain; having none is fine.
    pub(super) async fn take_back(&mut self) -> Result<(), EngineError> {
        let id = &self.record.id;
        let lifecycle = &self.shared.lifecycle;
        let deadline = tokio::time::Instant::now() + TAKE_BACK;
        // killing is asynchronous: the task can be deleted once it has ended
        let mut pause = Duration::from_millis(2);
        loop {
            let refused = match lifecycle.delete(id, "").await {
                Ok(_) => None,
                // a shim in the midst of creating says so too: believed once the daemon has no such task either
                Err(error) if error.is_not_found() => match lifecycle.status(id, "").await {
                    Err(gone) if gone.is_not_found() => None,
                    _ => Some(error),
                },
                Err(error) => Some(error),
            };
            match refused {
                None => {
                    self.may_have_task = false;
                    return Ok(());
                }
                Some(error) if tokio::time::Instant::now() >= deadline => return Err(error.into()),
                Some(_) => {}
            }
            let _ = lifecycle.kill(id, "", crate::signal::KILL).await;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Like [`Self::take_back`]; what stays is left to the next reconnection.
    pub(super) async fn take_back_or_log(&mut self) {
        if let Err(error) = self.take_back().await {
            tracing::warn!(container = self.record.id, %error, "task is left to be taken back on reconnection");
        }
    }

    async fn start_failed(&mut self, error: &EngineError) {
        // closes them, which tells their clients
        self.waiting.clear();
        if error.kind() == Kind::Unavailable && matches!(self.record.phase, Phase::Restarting { .. }) {
            // nothing of the container's own failed: its policy still wants it to run once the daemon below is back
            self.restart_at = Some(tokio::time::Instant::now() + self.pauses.next(Duration::ZERO));
            self.show();
            return;
        }
        let code = if let EngineError::Start { code, .. } = error { *code } else { 128 };
        let phase = std::mem::replace(&mut self.record.phase, Phase::Created { failure: None });
        self.record.phase = phase.start_failed(code, error.to_string());
        self.held = false;
        self.show();
        if self.record.host.auto_remove {
            self.removing = true;
            if let Err(error) = self.remove(true).await {
                tracing::error!(container = self.record.id, %error, "container that did not start cannot be removed");
            }
        } else {
            self.save_or_log().await;
        }
    }

    async fn rootfs(&mut self) -> Result<Vec<Mount>, EngineError> {
        if let Some(rootfs) = &self.rootfs {
            return Ok(rootfs.clone());
        }
        let rootfs = self.shared.lifecycle.rootfs(&self.record.id).await?;
        self.rootfs = Some(rootfs.clone());
        Ok(rootfs)
    }

    /// The restart that the policy asked for is due.
    pub(super) async fn restart(&mut self) {
        self.restart_at = None;
        if !matches!(self.record.phase, Phase::Restarting { .. }) {
            return;
        }
        if let Err(error) = self.start(false).await {
            tracing::warn!(container = self.record.id, %error, "container was not restarted");
        }
    }

    /// Somebody stopped it between two runs.
    pub(super) async fn end_restarting(&mut self, purpose: Purpose) {
        let Phase::Restarting { ended } = &self.record.phase else { return };
        self.record.phase = Phase::Exited { ended: ended.clone() };
        self.restart_at = None;
        self.record.manually_stopped |= purpose == Purpose::Person;
        self.show();
        self.save_or_log().await;
    }

    /// Finds out what became of the container while nobody listened, and completes or undoes what was half done.
    pub(super) async fn reconcile(&mut self, listed: Option<(u32, ProcessStatus)>, boot: bool) {
        let id = self.record.id.clone();
        let known = match (&self.record.phase, &listed) {
            // the list is older than this record may be, so only agreement is trusted
            (Phase::Running(run), Some((pid, ProcessStatus::Running))) => *pid == run.pid && !run.paused,
            (Phase::Running(run), Some((pid, ProcessStatus::Paused))) => *pid == run.pid && run.paused,
            (Phase::Created { .. } | Phase::Exited { .. }, None) => true,
            _ => false,
        };
        let found = if known {
            None
        } else {
            match self.shared.lifecycle.status(&id, "").await {
                Ok(info) => Some(Some(info)),
                Err(error) if error.is_not_found() => Some(None),
                Err(error) => {
                    tracing::warn!(container = id, %error, "cannot find out the container's state");
                    None
                }
            }
        };
        if let Some(found) = found {
            self.settle(found).await;
        }
        if boot && !self.removed {
            self.start_at_boot().await;
        }
    }

    async fn settle(&mut self, found: Option<engine_backend::ProcessInfo>) {
        let pid = found.as_ref().map_or(0, |info| info.pid);
        match (self.record.phase.clone(), found.map(|info| info.status)) {
            (Phase::Running(run), Some(ProcessStatus::Stopped(exit))) => self.exited(run.pid, exit).await,
            (Phase::Running(run), Some(ProcessStatus::Created)) => {
                // recorded as running, yet its start was lost with the daemon
                self.take_back_or_log().await;
                self.exited(run.pid, engine_backend::Exit { status: 255, at: None }).await;
            }
            (Phase::Running(_), Some(ProcessStatus::Paused | ProcessStatus::Pausing)) => {
                self.set_paused(true).await
            }
            (Phase::Running(_), Some(ProcessStatus::Running)) => self.set_paused(false).await,
            (Phase::Running(_), Some(ProcessStatus::Unknown)) => {}
            (Phase::Running(run), None) => {
                // its shim and its record are gone: Docker's code for an end nobody saw
                self.exited(run.pid, engine_backend::Exit { status: 255, at: None }).await;
            }
            (_, Some(status @ (ProcessStatus::Running | ProcessStatus::Paused | ProcessStatus::Pausing))) => {
                // started, and killed before that was recorded: the start is completed
                let paused = !matches!(status, ProcessStatus::Running);
                self.record.phase =
                    Phase::Running(Run { pid, started_at: Time::now(), paused, oom_killed: false });
                self.record.started_before = true;
                self.restart_at = None;
                self.show();
                self.save_or_log().await;
                self.event("start", &[]);
            }
            (phase, Some(ProcessStatus::Stopped(exit))) => {
                let recorded = phase.ended().map(|ended| ended.finished_at);
                let at = exit.at.map(Time::from);
                if phase.ended().is_none() || (at.is_some() && at > recorded) {
                    // a whole run that was not recorded
                    let started_at = at.unwrap_or_else(Time::now);
                    self.record.phase =
                        Phase::Running(Run { pid, started_at, paused: false, oom_killed: false });
                    self.record.started_before = true;
                    self.exited(pid, exit).await;
                } else {
                    self.take_back_or_log().await;
                }
            }
            (_, Some(ProcessStatus::Created | ProcessStatus::Unknown)) => self.take_back_or_log().await,
            (Phase::Restarting { .. }, None) if self.restart_at.is_none() => {
                self.restart_at = Some(tokio::time::Instant::now());
            }
            (_, None) => {}
        }
    }

    /// The daemon has just started: containers at rest may have to run by their policy.
    async fn start_at_boot(&mut self) {
        let Phase::Exited { ended } = &self.record.phase else {
            if matches!(self.record.phase, Phase::Restarting { .. }) && self.restart_at.is_none() {
                self.restart_at = Some(tokio::time::Instant::now());
            }
            return;
        };
        let record = &self.record;
        let policy = &record.host.restart_policy;
        if record.started_before
            && super::restart::wanted_at_boot(
                policy,
                ended.code,
                record.restart_count,
                record.manually_stopped,
            )
            && let Err(error) = self.start(false).await
        {
            tracing::warn!(container = self.record.id, %error, "container was not started with the daemon");
        }
    }
}
