//! Start-up is recovery: after every connection to the lifecycle daemon, what is recorded is compared with what
//! runs; half-made things are completed or undone, leaked things swept, and then events are followed.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use engine_backend::{Backend, BackendError, LifecycleEvent, TaskEvent};

use crate::container::actor::Command;
use crate::engine::Engine;

/// Pause after a stream of events that failed without the connection breaking.
const RETRY: Duration = Duration::from_millis(200);

impl Engine {
    /// Follows the lifecycle daemon for ever. Run this in a task of its own.
    pub async fn follow_lifecycle(self) {
        let Some(backend) = self.backend.clone() else { return };
        let mut seen = None;
        let mut boot = true;
        loop {
            let generation = backend.connected(seen).await;
            match self.follow_connection(&backend, &mut boot).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "lifecycle events ended"),
            }
            // the same connection may serve on: its events ended for another reason
            seen = if backend.is_connected() { None } else { Some(generation) };
            if seen.is_none() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn follow_connection(&self, backend: &Backend, boot: &mut bool) -> Result<(), BackendError> {
        backend.namespace_ensure().await?;
        // subscribed before listing, so that nothing falls between the two
        let mut events = backend.events().await?;
        self.reconcile(backend, *boot).await?;
        *boot = false;
        while let Some(event) = events.next().await? {
            self.dispatch(event).await;
        }
        Ok(())
    }

    async fn dispatch(&self, event: LifecycleEvent) {
        let (container_id, command) = match event.event {
            TaskEvent::Exit { container_id, process, pid, exit } => {
                if process != container_id && !process.is_empty() {
                    if let Ok(cell) = self.shared.registry.exec(&process) {
                        let shared = self.shared.clone();
                        tokio::spawn(async move { cell.exited(&shared, exit).await });
                    }
                    return;
                }
                (container_id, Command::Exited { pid, exit })
            }
            TaskEvent::Oom { container_id } => (container_id, Command::OutOfMemory),
            TaskEvent::Paused { .. } | TaskEvent::Resumed { .. } | TaskEvent::Other { .. } => return,
        };
        let Ok(handle) = self.shared.registry.find(&container_id) else { return };
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(command)) = handle.mailbox.try_send(command) {
            // a container that is busy does not hold up the others
            tokio::spawn(async move { handle.mailbox.send(command).await });
        }
    }

    async fn reconcile(&self, backend: &Backend, boot: bool) -> Result<(), BackendError> {
        let tasks: HashMap<_, _> = backend
            .task_list()
            .await?
            .into_iter()
            .map(|info| (info.container_id, (info.pid, info.status)))
            .collect();
        let mut records = backend.container_ids().await?;
        records.extend(tasks.keys().cloned());
        records.sort_unstable();
        records.dedup();
        for handle in self.shared.registry.all() {
            let listed = tasks.get(&handle.id).copied();
            let mailbox = handle.mailbox.clone();
            tokio::spawn(async move { mailbox.send(Command::Reconcile { listed, boot }).await });
            for exec in self.shared.registry.execs_of(&handle.id) {
                let shared = self.shared.clone();
                tokio::spawn(async move { exec.reconcile(&shared).await });
            }
        }
        for id in records {
            if !self.shared.registry.knows(&id) {
                // beside, so that one stuck shim does not hold up everybody's events
                let (engine, backend) = (self.clone(), backend.clone());
                tokio::spawn(async move { engine.sweep(&backend, &id).await });
            }
        }
        if boot {
            self.sweep_dirs();
        }
        Ok(())
    }

    /// Removes what a container left in the lifecycle daemon that has no record here.
    async fn sweep(&self, backend: &Backend, id: &str) {
        tracing::info!(container = id, "sweeping a container without a record");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            match backend.task_delete(id).await {
                Ok(_) => break,
                Err(error) if error.is_not_found() => break,
                Err(error) if tokio::time::Instant::now() > deadline => {
                    tracing::error!(container = id, %error, "leaked task cannot be deleted");
                    return;
                }
                Err(_) => {
                    let _ = backend.task_kill(id, "", crate::signal::KILL, true).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        for done in [backend.container_delete(id).await, backend.snapshot_remove(id).await] {
            if let Err(error) = done {
                tracing::error!(container = id, %error, "leaked container cannot be deleted");
            }
        }
    }

    /// Removes directories of containers that are not recorded.
    fn sweep_dirs(&self) {
        let config = &self.shared.config;
        // asked for each entry: containers are made meanwhile
        let is_known =
            |path: &Path| self.shared.registry.all().iter().any(|h| config.stdio_dir(&h.id) == path);
        for (dir, keep_by_id) in
            [(config.data_root.join("containers"), true), (config.exec_root.join("io"), false)]
        {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let keep =
                    if keep_by_id { self.shared.registry.knows(&name) } else { is_known(&entry.path()) };
                if !keep && let Err(error) = std::fs::remove_dir_all(entry.path()) {
                    tracing::warn!(path = %entry.path().display(), %error, "leftover was not removed");
                }
            }
        }
    }
}
