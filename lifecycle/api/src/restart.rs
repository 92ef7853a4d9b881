//! The restart monitor: starts tasks again, or stops them, as the labels of their containers ask.
//!
//! containerd's clients set the labels (nerdctl's `--restart`); see [`policy`].

mod policy;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifecycle_metadata::{Container, Scope};
use lifecycle_snapshots::NATIVE;
use lifecycle_tasks::{CreateTask, Phase, Stdio, TaskError, Tasks};
use tonic::Status;
use wharf_containerd::containerd::types;
use wharf_kinds::Kind;

use self::policy::{Act, COUNT, LOG_URI, STATUS, judge};
use crate::monitor::Guard;
use crate::mounts;
use crate::storage::{Storage, blocking};
use crate::wire;

const KILL: u32 = 9;
/// What the end of a killed task may take before the next round looks at it again.
const END: Duration = Duration::from_secs(10);

/// A container: namespace and id.
type Key = (String, String);

#[derive(Clone)]
struct Monitor {
    storage: Storage,
    tasks: Tasks,
    /// Those that something is being done about.
    busy: Arc<Mutex<HashSet<Key>>>,
}

/// Why a container could not be brought to where its labels want it.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error("{}", .0.message())]
    Storage(#[from] Status),
    #[error("its killed task does not end")]
    Lives,
}

/// Looks at every container at this interval, until the guard is dropped.
pub(crate) fn watch(storage: Storage, tasks: Tasks, interval: Duration) -> Guard {
    let monitor = Monitor { storage, tasks, busy: Arc::default() };
    Guard::of(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // created and not started in the round before
        let mut hesitating = HashSet::new();
        loop {
            ticks.tick().await;
            match monitor.look(&hesitating).await {
                Ok(seen) => hesitating = seen,
                Err(error) => tracing::error!(error = error.message(), "looking for tasks to restart"),
            }
        }
    }))
}

impl Monitor {
    /// One round: decides for every container; what is to be done is done beside it, so that nobody waits for a
    /// container that is stuck.
    async fn look(&self, hesitated: &HashSet<Key>) -> Result<HashSet<Key>, Status> {
        let mut hesitating = HashSet::new();
        let metadata = self.storage.metadata.clone();
        for namespace in blocking(move || metadata.namespaces().list()).await? {
            let (metadata, scope) = (self.storage.metadata.clone(), Scope::new(&*namespace.name, None));
            let labelled = [format!("labels.\"{STATUS}\"")];
            let containers = blocking(move || metadata.containers().list(&scope, &labelled)).await?;
            if containers.is_empty() {
                continue;
            }
            let tasks = self.tasks.list(&namespace.name);
            for container in containers {
                let key = (namespace.name.clone(), container.id.clone());
                let task = tasks.iter().find(|task| task.id == container.id).map(|task| task.phase);
                let act = match judge(&container.labels, task) {
                    Act::WaitAndSee if hesitated.contains(&key) => judge(&container.labels, None),
                    Act::WaitAndSee => {
                        hesitating.insert(key);
                        continue;
                    }
                    act => act,
                };
                if act != Act::Nothing && self.busy().insert(key.clone()) {
                    let monitor = self.clone();
                    tokio::spawn(async move {
                        let done = monitor.change(&key.0, container, act).await;
                        if let Err(error) = done {
                            tracing::error!(namespace = key.0, id = key.1, %error, "restart monitor");
                        }
                        monitor.busy().remove(&key);
                    });
                }
            }
        }
        Ok(hesitating)
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn change(&self, namespace: &str, container: Container, act: Act) -> Result<(), ChangeError> {
        let id = container.id.clone();
        match act {
            Act::Nothing | Act::WaitAndSee => Ok(()),
            Act::Stop => {
                tracing::info!(namespace, id, "stopping task as its container's label asks");
                self.end(namespace, &id).await
            }
            Act::Start(count) => {
                tracing::info!(namespace, id, count, "starting task as its container's label asks");
                self.count(namespace, &container, count).await?;
                self.end(namespace, &id).await?;
                self.start(namespace, container).await
            }
        }
    }

    async fn count(&self, namespace: &str, container: &Container, count: u32) -> Result<(), Status> {
        let mut wanted = container.clone();
        wanted.labels.insert(COUNT.to_owned(), count.to_string());
        let (metadata, scope) = (self.storage.metadata.clone(), Scope::new(namespace, None));
        let mask = [format!("labels.{COUNT}")];
        blocking(move || metadata.containers().update(&scope, &wanted, &mask)).await?;
        Ok(())
    }

    /// Kills the task, if there is one, and removes it.
    async fn end(&self, namespace: &str, id: &str) -> Result<(), ChangeError> {
        let phase = match self.tasks.list(namespace).into_iter().find(|task| task.id == id) {
            Some(task) => task.phase,
            None => return Ok(()),
        };
        if !matches!(phase, Phase::Stopped(_)) {
            // may have ended by itself meanwhile
            let killed = self.tasks.kill(namespace, id, "", KILL, true).await;
            match tokio::time::timeout(END, self.tasks.wait(namespace, id, "")).await {
                Ok(_) => {}
                Err(_) => return Err(killed.err().map_or(ChangeError::Lives, ChangeError::Task)),
            }
        }
        match self.tasks.delete(namespace, id).await {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        mounts::deactivate_for_task(&self.storage, namespace, id).await;
        Ok(())
    }

    async fn start(&self, namespace: &str, container: Container) -> Result<(), ChangeError> {
        let scope = Scope::new(namespace, None);
        let rootfs = self.rootfs(&scope, &container).await?;
        let named = (container.id.as_str(), "");
        let (rootfs, is_activated) =
            mounts::activate_for_task(&self.tasks, &self.storage, &scope, named, rootfs).await?;
        let id = container.id.clone();
        let create = CreateTask {
            namespace: namespace.to_owned(),
            id: id.clone(),
            rootfs,
            stdio: stdio(&container),
            ..CreateTask::default()
        };
        let started = match self.tasks.create(create).await {
            Ok(_) => self.tasks.start(namespace, &id, "").await.map(|_| ()),
            Err(error) => {
                if is_activated {
                    mounts::deactivate_for_task(&self.storage, namespace, &id).await;
                }
                Err(error)
            }
        };
        started.map_err(ChangeError::from)
    }

    /// The mounts of the container's snapshot; none where the root filesystem is a folder that the spec names.
    async fn rootfs(&self, scope: &Scope, container: &Container) -> Result<Vec<types::Mount>, Status> {
        if container.snapshot_key.is_empty() {
            return Ok(Vec::new());
        }
        let snapshotter = if container.snapshotter == NATIVE {
            self.storage.native.clone()
        } else {
            self.storage.snapshotter.clone()
        };
        let (scope, key) = (scope.clone(), container.snapshot_key.clone());
        Ok(wire::mounts(blocking(move || snapshotter.mounts(&scope, &key)).await?))
    }
}

/// To the address that the container's label names, or nowhere.
fn stdio(container: &Container) -> Stdio {
    let Some(uri) = container.labels.get(LOG_URI).filter(|uri| !uri.is_empty()) else {
        return Stdio::default();
    };
    let spec = container.spec.as_ref().map(|spec| spec.value.as_slice()).unwrap_or_default();
    let terminal = serde_json::from_slice::<serde_json::Value>(spec)
        .is_ok_and(|spec| spec["process"]["terminal"] == serde_json::Value::Bool(true));
    let stderr = if terminal { String::new() } else { uri.clone() };
    Stdio { stdin: String::new(), stdout: uri.clone(), stderr, terminal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_goes_where_the_label_says() {
        let container = |uri: &str, spec: &str| Container {
            labels: [(LOG_URI.to_owned(), uri.to_owned())].into(),
            spec: Some(lifecycle_metadata::AnyValue { type_url: String::new(), value: spec.into() }),
            ..blank()
        };
        assert_eq!(stdio(&container("", "{}")), Stdio::default());
        let both = stdio(&container("file:///l", r#"{"process":{"terminal":false}}"#));
        assert_eq!(
            (both.stdout.as_str(), both.stderr.as_str(), both.terminal),
            ("file:///l", "file:///l", false)
        );
        let one = stdio(&container("file:///l", r#"{"process":{"terminal":true}}"#));
        assert_eq!((one.stderr.as_str(), one.terminal), ("", true));
    }

    fn blank() -> Container {
        Container {
            id: "c".into(),
            labels: Default::default(),
            image: String::new(),
            runtime: lifecycle_metadata::Runtime { name: String::new(), options: None },
            spec: None,
            snapshotter: String::new(),
            snapshot_key: String::new(),
            extensions: Default::default(),
            sandbox: String::new(),
            created: std::time::SystemTime::UNIX_EPOCH,
            updated: std::time::SystemTime::UNIX_EPOCH,
        }
    }
}
