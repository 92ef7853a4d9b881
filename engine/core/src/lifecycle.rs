//! What the containers' mailboxes need of the lifecycle daemon, as a seam that tests can stand in for.

use engine_backend::{
    Backend, BackendError, ContainerRecord, ExecSpec, Exit, Labels, Mount, ProcessInfo, TaskSpec,
};

use crate::image::BoxFuture;

type Answer<'a, T> = BoxFuture<'a, Result<T, BackendError>>;

/// A container to be made in the lifecycle daemon.
pub struct NewContainer<'a> {
    pub id: &'a str,
    /// Snapshot to build on; empty for none.
    pub parent: &'a str,
    /// Plans the record once the root's mounts are known.
    pub plan: &'a (dyn Fn(&[Mount]) -> ContainerRecord + Send + Sync),
}

/// The lifecycle daemon, as far as a container's mailbox goes. Removing what is not there is no error.
pub trait Lifecycle: Send + Sync + 'static {
    /// Prepares the writable snapshot and stores the record; on failure neither is left. Returns the root's mounts.
    fn make<'a>(&'a self, new: &'a NewContainer<'a>) -> Answer<'a, (Vec<Mount>, ContainerRecord)>;
    /// Deletes the record and the snapshot.
    fn erase<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;
    fn set_spec<'a>(&'a self, record: &'a ContainerRecord) -> Answer<'a, ()>;
    fn rootfs<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<Mount>>;
    fn create_task<'a>(&'a self, spec: &'a TaskSpec) -> Answer<'a, u32>;
    fn create_exec<'a>(&'a self, spec: &'a ExecSpec) -> Answer<'a, ()>;
    /// `exec` empty is the container's first process, here and below.
    fn start<'a>(&'a self, id: &'a str, exec: &'a str) -> Answer<'a, u32>;
    fn kill<'a>(&'a self, id: &'a str, exec: &'a str, signal: u32) -> Answer<'a, ()>;
    fn delete<'a>(&'a self, id: &'a str, exec: &'a str) -> Answer<'a, Exit>;
    fn status<'a>(&'a self, id: &'a str, exec: &'a str) -> Answer<'a, ProcessInfo>;
    fn resize<'a>(&'a self, id: &'a str, exec: &'a str, width: u32, height: u32) -> Answer<'a, ()>;
    /// Closes the shim's own hold on a stdin FIFO.
    fn close_stdin<'a>(&'a self, id: &'a str, exec: &'a str) -> Answer<'a, ()>;
    fn pause<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;
    fn resume<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;
    fn pids<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<u32>>;
    /// Changes limits; OCI LinuxResources as JSON.
    fn update<'a>(&'a self, id: &'a str, resources: Vec<u8>) -> Answer<'a, ()>;
}

/// How long an unfinished creation is protected from the collector.
const LEASE: std::time::Duration = std::time::Duration::from_secs(600);

impl Lifecycle for Backend {
    fn make<'a>(&'a self, new: &'a NewContainer<'a>) -> Answer<'a, (Vec<Mount>, ContainerRecord)> {
        Box::pin(async move {
            let none = Labels::new();
            let lease = self.lease_create(&format!("wharf-create-{}", new.id), &none, Some(LEASE)).await?;
            let made = async {
                let mounts = self.snapshot_prepare(&lease, new.id, new.parent, &none).await?;
                let record = (new.plan)(&mounts);
                self.container_create(&record).await?;
                Ok((mounts, record))
            }
            .await;
            if made.is_err() {
                // what stays because of a second failure goes with the lease
                let _ = self.container_delete(new.id).await;
                let _ = self.snapshot_remove(new.id).await;
            }
            // from here on the record itself holds the snapshot
            if let Err(error) = self.lease_delete(&lease, false).await {
                tracing::warn!(%error, lease = lease.id(), "lease is left to expire");
            }
            made
        })
    }

    fn erase<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.container_delete(id).await?;
            self.snapshot_remove(id).await
        })
    }

    fn set_spec<'a>(&'a self, record: &'a ContainerRecord) -> Answer<'a, ()> {
        Box::pin(self.container_set_spec(record))
    }

    fn rootfs<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<Mount>> {
        Box::pin(self.snapshot_mounts(id))
    }

    fn create_task<'a>(&'a self, spec: &'a TaskSpec) -> Answer<'a, u32> {
        Box::pin(self.task_create(spec))
    }

    fn create_exec<'a>(&'a self, spec: &'a ExecSpec) -> Answer<'a, ()> {
        Box::pin(self.exec_create(spec))
    }

    fn start<'a>(&'a self, id: &'a str, exec: &'a str) -> Answer<'a, u32> {
        Box::pin(self.task_start(id, exec))
    }

    fn kill<'a>(&'a self, id: &'a str, exec: &'a str, signal: u32) -> Answer<'a, ()> {
        Box::pin(self.task_kill(id, exec, signal, false))
    }

    fn delete<'a>(&'a self, id: &'a str, exec: &'a str) -> Answer<'a, Exit> {
        Box::pin(async move {
            if exec.is_empty() { self.task_delete(id).await } else { self.exec_delete(id, exec).await }
        })
    }

    fn status<'a>(&'a self, id: &'a str, exec: &'a str) -> Answer<'a, ProcessInfo> {
        Box::pin(self.task_get(id, exec))
    }

    fn resize<'a>(&'a self, id: &'a str, exec: &'a str, width: u32, height: u32) -> Answer<'a, ()> {
        Box::pin(self.task_resize(id, exec, width, height))
    }

    fn close_stdin<'a>(&'a self, id: &'a str, exec: &'a str) -> Answer<'a, ()> {
        Box::pin(self.task_close_stdin(id, exec))
    }

    fn pause<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.task_pause(id))
    }

    fn resume<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.task_resume(id))
    }

    fn pids<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<u32>> {
        Box::pin(self.task_pids(id))
    }

    fn update<'a>(&'a self, id: &'a str, resources: Vec<u8>) -> Answer<'a, ()> {
        Box::pin(self.task_update(id, resources))
    }
}
