//! Deleting a task: the shim's `Delete`, its shutdown, the bundle.

use std::sync::Arc;

use tokio::time::timeout;
use wharf_containerd::containerd::task::v3::{DeleteRequest, DeleteResponse, ShutdownRequest};
use wharf_failpoints::{Point, hit};

use crate::bundle::Bundle;
use crate::client::CallError;
use crate::create::blocking;
use crate::error::TaskError;
use crate::limits;
use crate::process::Exit;
use crate::task::{Stage, Task};
use crate::tasks::Tasks;

impl Tasks {
    /// Removes a task that has stopped and returns how it ended. Goes on even if the caller loses patience.
    pub async fn delete(&self, namespace: &str, id: &str) -> Result<Exit, TaskError> {
        self.shared.containers.container(namespace, id)?;
        self.settled(namespace, id).await;
        let task = self.task(namespace, id)?;
        let tasks = self.clone();
        tokio::spawn(async move { tasks.delete_now(&task).await })
            .await
            .unwrap_or(Err(TaskError::Interrupted))
    }

    async fn delete_now(&self, task: &Arc<Task>) -> Result<Exit, TaskError> {
        if task.stage() != Stage::Served {
            return self.take_remains(task).await;
        }
        let request = DeleteRequest { id: task.id().into(), exec_id: String::new() };
        let answer: Result<DeleteResponse, _> = task.call("Delete", &request, limits::DELETE).await;
        let exit = match answer {
            Ok(answer) => {
                hit(Point::TaskDeleteTold);
                let exit = Exit { pid: answer.pid, status: answer.exit_status, at: answer.exited_at };
                task.processes().init.exited(exit);
                Ok(exit)
            }
            // the shim has no such task: nothing keeps the rest from being removed
            Err(error) if error.is_not_found() => Err(TaskError::Delete(error)),
            Err(CallError::Closed) => return self.after_burial(task).await,
            Err(error) => return Err(TaskError::Delete(error)),
        };
        if !task.claim_ending() {
            // someone else is at it already
            return match task.finished(limits::CLEAN_UP).await {
                Stage::Buried => self.take_remains(task).await,
                _ => exit,
            };
        }
        self.mark(task);
        // from here on it is gone, for clients and for a daemon that starts anew; nobody needs to wait for the rest
        let leaving = self.leave(task);
        let (tasks, task) = (self.clone(), task.clone());
        tokio::spawn(async move {
            tasks.tear_down(&task).await;
            drop(leaving);
        });
        exit
    }

    /// The shim is gone: whoever noticed cleans up after it first.
    async fn after_burial(&self, task: &Arc<Task>) -> Result<Exit, TaskError> {
        match task.finished(limits::CLEAN_UP).await {
            Stage::Served => Err(TaskError::Delete(CallError::Closed)),
            _ => self.take_remains(task).await,
        }
    }

    /// Removes a task that no shim serves any more.
    pub(crate) async fn take_remains(&self, task: &Arc<Task>) -> Result<Exit, TaskError> {
        let exit = task.processes().init.exit().ok_or_else(|| TaskError::Lost(task.id().into()))?;
        if task.stage() == Stage::Buried && task.claim_remains() {
            if let Err(error) = blocking(&task.bundle, Bundle::remove).await {
                task.return_remains();
                return Err(error);
            }
            self.announce_delete(task, exit);
            self.forget(task);
            task.finish(Stage::Removed);
        }
        Ok(exit)
    }

    /// Ends a shim that knows of no task, has its program take away what it may have made all the same, and removes
    /// what is left. Needs [`Task::claim_ending`].
    pub(crate) async fn abandon(&self, task: &Arc<Task>) {
        let (id, namespace) = (task.id(), &task.bundle.namespace);
        if let Some(client) = task.client() {
            let closed = client.closed();
            let request = ShutdownRequest { id: id.into(), now: false };
            let _ = client.call::<_, ()>("Shutdown", &request, limits::SHUTDOWN).await;
            // a shim of other containers stays; one in the midst of something ends first
            let _ = timeout(limits::SHUTDOWN, closed).await;
        }
        if let Err(error) = self.shared.launcher.delete(&task.program, &task.bundle).await {
            tracing::warn!(id, namespace, %error, "failed to clean up after shim without a task");
        }
        self.mark(task);
        self.tear_down(task).await;
    }

    /// Removes a task of which clients were told that it is deleted, and which its shim has all the same. Needs
    /// [`Task::claim_ending`].
    pub(crate) async fn delete_again(&self, task: &Arc<Task>) {
        let request = DeleteRequest { id: task.id().into(), exec_id: String::new() };
        match task.call::<_, DeleteResponse>("Delete", &request, limits::DELETE).await {
            Ok(_) => self.tear_down(task).await,
            Err(error) if error.is_not_found() => self.tear_down(task).await,
            Err(error) => {
                let (id, namespace) = (task.id(), &task.bundle.namespace);
                tracing::warn!(id, namespace, %error, "shim does not delete a deleted task");
                self.abandon(task).await;
            }
        }
    }

    /// A daemon that finds the bundle removes it and ends the shim.
    fn mark(&self, task: &Arc<Task>) {
        if let Err(error) = task.bundle.mark_deleted() {
            tracing::warn!(id = task.id(), namespace = task.bundle.namespace, %error, "failed to mark bundle");
        }
    }

    /// Ends the shim and removes what is left, of a bundle that is marked. Needs [`Task::claim_ending`].
    pub(crate) async fn tear_down(&self, task: &Arc<Task>) {
        let (id, namespace) = (task.id(), &task.bundle.namespace);
        let request = ShutdownRequest { id: id.into(), now: false };
        match task.call::<_, ()>("Shutdown", &request, limits::SHUTDOWN).await {
            // a shim may be gone before it has answered
            Ok(()) | Err(CallError::Closed) => {}
            Err(error) => {
                tracing::warn!(id, namespace, %error, "shim does not shut down and may be left behind")
            }
        }
        hit(Point::TaskDeleteShim);
        task.unlink();
        if let Err(error) = blocking(&task.bundle, Bundle::remove).await {
            tracing::error!(id, namespace, %error, "failed to remove bundle");
        }
        hit(Point::TaskDeleteBundle);
        self.forget(task);
        task.finish(Stage::Removed);
    }
}
