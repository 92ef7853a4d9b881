//! Noticing that a shim is gone, and cleaning up after it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use tokio::time::{Instant, sleep};
use wharf_containerd::containerd::events::{TaskDelete, TaskExit};
use wharf_containerd::to_any;
use wharf_kinds::Kind;

use crate::bundle::Bundle;
use crate::client::{ShimClient, means_dead};
use crate::create::blocking;
use crate::endpoint::{Address, Endpoint};
use crate::process::Exit;
use crate::task::{Stage, Task};
use crate::tasks::Tasks;

/// Status of a process of which nothing is known but that it is gone (containerd's).
const UNKNOWN_STATUS: u32 = 255;
/// A connection that lives shorter than this counts as failed.
const SHORT_LIVED: Duration = Duration::from_millis(100);
/// Pause before a shim that lives but does not accept is tried again.
const LATER: Duration = Duration::from_secs(1);
/// Pauses before cleaning up after a shim is tried again: mounts and cgroups may be busy while processes die.
const BURIAL_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// Failed connections in a row after which the shim counts as dead.
const ATTEMPTS: u32 = 5;

impl Tasks {
    /// Watches the connection until the task is removed: a broken one is made again, a dead shim is buried.
    pub(crate) fn supervise(&self, task: &Arc<Task>) {
        let (tasks, task) = (self.clone(), task.clone());
        // every task has this future and it mostly waits: what is rarely needed is boxed, not part of it
        tokio::spawn(async move {
            let mut failed = 0;
            while failed < ATTEMPTS {
                let since = Instant::now();
                let closed = task.client().map(|client| client.closed());
                if let Some(closed) = closed {
                    closed.await;
                }
                if task.is_ending() || task.is_down() {
                    return;
                }
                // a connection may break with the shim alive; a socket that nobody serves refuses
                let link = ShimClient::connect(&task.endpoint, &task.bundle.namespace, &task.bundle.id);
                match Box::pin(link).await {
                    Ok(client) => {
                        task.relink(client);
                        failed = if since.elapsed() < SHORT_LIVED { failed + 1 } else { 0 };
                        sleep(Duration::from_millis(20) * failed).await;
                    }
                    Err(error) if means_dead(&error) => break,
                    Err(error) => {
                        tracing::warn!(
                            id = task.id(),
                            namespace = task.bundle.namespace,
                            %error,
                            "failed to connect to shim"
                        );
                        sleep(LATER).await;
                    }
                }
            }
            Box::pin(tasks.bury(&task)).await;
        });
    }

    /// Cleans up after a shim that is gone: its program removes what it left, and if nobody has heard yet how
    /// the task ended, it is announced.
    ///
    /// The task itself stays, stopped, until it is deleted: a client that was not listening still learns how it
    /// ended. (In containerd it would vanish.) Without a container record nobody can delete it, so it goes too.
    pub(crate) async fn bury(&self, task: &Arc<Task>) {
        if !task.claim_ending() {
            return;
        }
        task.unlink();
        // clients were told of its end, and that it is deleted: they hear nothing more
        let marked = task.bundle.is_marked_deleted();
        let (id, namespace) = (task.id(), &task.bundle.namespace);
        tracing::info!(id, namespace, "cleaning up after dead shim");
        let mut found = self.shared.launcher.delete(&task.program, &task.bundle).await;
        for pause in BURIAL_PAUSES {
            let Err(error) = &found else { break };
            tracing::info!(id, namespace, %error, "cleaning up after dead shim failed, trying again");
            sleep(pause).await;
            found = self.shared.launcher.delete(&task.program, &task.bundle).await;
        }
        let exit = found.unwrap_or_else(|error| {
            tracing::warn!(id, namespace, %error, "failed to clean up after dead shim");
            let pid = task.processes().init.pid();
            Exit { pid, status: UNKNOWN_STATUS, at: Some(now()) }
        });
        let exit = {
            let mut processes = task.processes();
            processes.init.exited(exit);
            // what was known before stands
            processes.init.exit().unwrap_or(exit)
        };
        remove_stale_socket(&task.endpoint).await;
        let record = self.shared.containers.container(namespace, id);
        let kept = !marked && !record.is_err_and(|error| error.kind == Kind::NotFound);
        if kept && let Err(error) = blocking(&task.bundle, move |bundle| bundle.write_exit(exit)).await {
            tracing::error!(id, namespace, %error, "failed to keep exit of task");
        }
        if !marked {
            self.announce_exit(task, exit);
        }
        if kept {
            task.finish(Stage::Buried);
            return;
        }
        if !marked {
            self.announce_delete(task, exit);
        }
        if let Err(error) = blocking(&task.bundle, Bundle::remove).await {
            tracing::error!(id, namespace, %error, "failed to remove bundle");
        }
        self.forget(task);
        task.finish(Stage::Removed);
    }

    /// Publishes that a task is removed whose shim cannot say so.
    pub(crate) fn announce_delete(&self, task: &Arc<Task>, exit: Exit) {
        let deleted = TaskDelete {
            container_id: task.id().into(),
            pid: exit.pid,
            exit_status: exit.status,
            exited_at: exit.at,
            id: String::new(),
        };
        self.publish(&task.bundle.namespace, "/tasks/delete", "containerd.events.TaskDelete", &deleted);
    }

    /// Publishes the exit of init unless that was done.
    pub(crate) fn announce_exit(&self, task: &Arc<Task>, exit: Exit) {
        if !task.claim_announcement() {
            return;
        }
        let id = task.id();
        let exited = TaskExit {
            container_id: id.into(),
            id: id.into(),
            pid: exit.pid,
            exit_status: exit.status,
            exited_at: exit.at,
        };
        self.publish(&task.bundle.namespace, "/tasks/exit", "containerd.events.TaskExit", &exited);
    }

    fn publish<M: prost::Message>(&self, namespace: &str, topic: &str, name: &str, event: &M) {
        if let Err(error) = self.shared.exchange.publish(namespace, topic, to_any(name, event)) {
            tracing::error!(namespace, topic, %error, "failed to publish event");
        }
    }
}

/// Removes the socket of a shim that did not get to do so. One that is served, by a shim of several containers,
/// stays.
async fn remove_stale_socket(endpoint: &Endpoint) {
    if let Address::Path(path) = &endpoint.address
        && let Err(error) = tokio::net::UnixStream::connect(path).await
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        // what is left costs nothing but a name
        let _ = std::fs::remove_file(path);
    }
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}
