//! The tasks of all namespaces.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifecycle_events::Exchange;
use prost_types::Any;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::bootstrap::{Daemon, Launcher};
use crate::error::{LookupError, TaskError};
use crate::limits;
use crate::runtime::Runtimes;
use crate::task::Task;

/// What a task needs to know of its container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Container {
    /// The runtime's name or the shim's path.
    pub runtime: String,
    pub runtime_options: Option<Any>,
    /// The OCI spec as JSON.
    pub spec: Option<Any>,
    /// The sandbox it belongs to, whose shim serves it; empty for none.
    pub sandbox: String,
}

/// The container records.
pub trait Containers: Send + Sync + 'static {
    /// The record of a container; [`wharf_kinds::Kind::NotFound`] if there is none.
    fn container(&self, namespace: &str, id: &str) -> Result<Container, LookupError>;
}

/// Where tasks live and what shims are told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Work folders, `<root>/<namespace>/<id>`.
    pub root: PathBuf,
    /// Bundles, `<state>/<namespace>/<id>`.
    pub state: PathBuf,
    pub daemon: Daemon,
    pub runtimes: Runtimes,
}

/// All tasks. Clones are the same.
#[derive(Clone)]
pub struct Tasks {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) launcher: Launcher,
    pub(crate) exchange: Exchange,
    pub(crate) containers: Arc<dyn Containers>,
    registry: Mutex<HashMap<Key, Entry>>,
    pub(crate) sandboxes: Mutex<crate::sandbox::Registry>,
}

type Key = (String, String);

enum Entry {
    /// Being created: the id is taken, but there is nothing to talk to. Closed when that is over.
    Reserved(watch::Receiver<()>),
    Live(Arc<Task>),
    /// Deleted, as far as clients can tell; what is left of it is being removed. Closed when that is over.
    Leaving(Arc<Task>, watch::Receiver<()>),
}

impl Tasks {
    pub fn new(config: Config, exchange: Exchange, containers: Arc<dyn Containers>) -> Self {
        let launcher = Launcher::new(config.daemon.clone());
        let (registry, sandboxes) = (Mutex::default(), Mutex::default());
        Tasks { shared: Arc::new(Shared { config, launcher, exchange, containers, registry, sandboxes }) }
    }

    fn registry(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task of a container that has a record, as containerd looks it up: record first.
    pub(crate) fn task(&self, namespace: &str, id: &str) -> Result<Arc<Task>, TaskError> {
        if let Some(task) = self.find(namespace, id) {
            return Ok(task);
        }
        self.shared.containers.container(namespace, id)?;
        Err(TaskError::NoTask(id.into()))
    }

    pub(crate) fn find(&self, namespace: &str, id: &str) -> Option<Arc<Task>> {
        match self.registry().get(&(namespace.to_owned(), id.to_owned())) {
            Some(Entry::Live(task)) => Some(task.clone()),
            _ => None,
        }
    }

    /// The same for an event of a shim, which may come after the task was deleted.
    pub(crate) fn find_even_leaving(&self, namespace: &str, id: &str) -> Option<Arc<Task>> {
        match self.registry().get(&(namespace.to_owned(), id.to_owned())) {
            Some(Entry::Live(task) | Entry::Leaving(task, _)) => Some(task.clone()),
            _ => None,
        }
    }

    /// Waits until the task is not just being created: a client that lost its connection meanwhile asks about it.
    pub(crate) async fn settled(&self, namespace: &str, id: &str) {
        let key = (namespace.to_owned(), id.to_owned());
        let over = async {
            loop {
                let mut creating = match self.registry().get(&key) {
                    Some(Entry::Reserved(creating)) => creating.clone(),
                    _ => return,
                };
                while creating.changed().await.is_ok() {}
            }
        };
        // what it is after that time is the answer
        let _ = timeout(limits::CREATE, over).await;
    }

    /// The ids of a namespace's tasks that are being created.
    pub(crate) fn being_created(&self, namespace: &str) -> Vec<String> {
        let registry = self.registry();
        let reserved =
            registry.iter().filter(|((of, _), entry)| of == namespace && matches!(entry, Entry::Reserved(_)));
        reserved.map(|((_, id), _)| id.clone()).collect()
    }

    /// All tasks of a namespace, by id.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Vec<Arc<Task>> {
        let mut tasks: Vec<_> = self
            .registry()
            .iter()
            .filter(|((of, _), _)| of == namespace)
            .filter_map(|(_, entry)| match entry {
                Entry::Live(task) => Some(task.clone()),
                Entry::Reserved(_) | Entry::Leaving(..) => None,
            })
            .collect();
        tasks.sort_by(|a, b| a.id().cmp(b.id()));
        tasks
    }

    /// Takes an id for a task that is about to be made.
    pub(crate) fn reserve(&self, namespace: &str, id: &str) -> Result<Reservation, TaskError> {
        let key = (namespace.to_owned(), id.to_owned());
        let mut registry = self.registry();
        if registry.contains_key(&key) {
            return Err(TaskError::Exists(id.into()));
        }
        let (over, creating) = watch::channel(());
        registry.insert(key.clone(), Entry::Reserved(creating));
        Ok(Reservation { tasks: self.clone(), key: Some(key), _over: over })
    }

    /// The same once nothing is left of a deleted task of that id.
    pub(crate) async fn reserve_after(&self, namespace: &str, id: &str) -> Result<Reservation, TaskError> {
        let key = (namespace.to_owned(), id.to_owned());
        let over = async {
            loop {
                let mut leaving = match self.registry().get(&key) {
                    Some(Entry::Leaving(_, leaving)) => leaving.clone(),
                    _ => return,
                };
                while leaving.changed().await.is_ok() {}
            }
        };
        // what it is after that time is the answer
        let _ = timeout(limits::CREATE, over).await;
        self.reserve(namespace, id)
    }

    /// Hides a task from clients. Its id is free once what this returns is dropped.
    pub(crate) fn leave(&self, task: &Arc<Task>) -> Leaving {
        let key = (task.bundle.namespace.clone(), task.bundle.id.clone());
        let (over, leaving) = watch::channel(());
        let mut registry = self.registry();
        if matches!(registry.get(&key), Some(Entry::Live(known)) if Arc::ptr_eq(known, task)) {
            registry.insert(key, Entry::Leaving(task.clone(), leaving));
        }
        Leaving { tasks: self.clone(), task: task.clone(), _over: over }
    }

    /// Forgets a task, unless the id is another one's by now.
    pub(crate) fn forget(&self, task: &Arc<Task>) {
        let key = (task.bundle.namespace.clone(), task.bundle.id.clone());
        let mut registry = self.registry();
        let known = registry.get(&key);
        if matches!(known, Some(Entry::Live(known) | Entry::Leaving(known, _)) if Arc::ptr_eq(known, task)) {
            registry.remove(&key);
        }
    }
}

/// A task of which clients see nothing any more.
pub(crate) struct Leaving {
    tasks: Tasks,
    task: Arc<Task>,
    /// Closes after the registry was changed.
    _over: watch::Sender<()>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.tasks.forget(&self.task);
    }
}

/// An id taken; given back on drop unless a task moved in.
pub(crate) struct Reservation {
    tasks: Tasks,
    key: Option<Key>,
    /// Closes after the registry was changed.
    _over: watch::Sender<()>,
}

impl Reservation {
    pub(crate) fn fill(mut self, task: &Arc<Task>) {
        if let Some(key) = self.key.take() {
            self.tasks.registry().insert(key, Entry::Live(task.clone()));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.tasks.registry().remove(&key);
        }
    }
}
