//! The read model: every container and exec, in memory. Nothing here waits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::container::exec::ExecCell;
use crate::container::view::Handle;
use crate::error::EngineError;

/// Shared by the engine and the containers' mailboxes.
#[derive(Default)]
pub struct Registry {
    index: RwLock<Index>,
    execs: RwLock<HashMap<String, Arc<ExecCell>>>,
    creating: Mutex<HashSet<String>>,
}

#[derive(Default)]
struct Index {
    by_id: BTreeMap<String, Handle>,
    /// Names without the slash; reserved ones have no handle yet.
    by_name: HashMap<String, String>,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn making(&self) -> MutexGuard<'_, HashSet<String>> {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds a container by full id, name (slash or not), or the beginning of an id.
    pub fn find(&self, wanted: &str) -> Result<Handle, EngineError> {
        let none = || EngineError::NoSuchContainer(wanted.to_owned());
        if wanted.is_empty() {
            return Err(EngineError::Invalid(format!("invalid name or ID supplied: {wanted:?}")));
        }
        let index = self.read();
        if let Some(handle) = index.by_id.get(wanted) {
            return Ok(handle.clone());
        }
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        if let Some(handle) = index.by_name.get(name).and_then(|id| index.by_id.get(id)) {
            return Ok(handle.clone());
        }
        let mut matches = index.by_id.range(wanted.to_owned()..).take_while(|(id, _)| id.starts_with(wanted));
        match (matches.next(), matches.next()) {
            (Some((_, handle)), None) => Ok(handle.clone()),
            (Some(_), Some(_)) => Err(EngineError::Ambiguous(wanted.to_owned())),
            (None, _) => Err(none()),
        }
    }

    /// Every container.
    pub fn all(&self) -> Vec<Handle> {
        self.read().by_id.values().cloned().collect()
    }

    /// Takes a name for a container that may not exist yet.
    pub fn claim_name(self: &Arc<Self>, name: &str, id: &str) -> Result<NameClaim, EngineError> {
        let mut index = self.write();
        if let Some(holder) = index.by_name.get(name) {
            return Err(EngineError::NameTaken { name: name.to_owned(), id: holder.clone() });
        }
        index.by_name.insert(name.to_owned(), id.to_owned());
        Ok(NameClaim { registry: self.clone(), name: name.to_owned(), kept: false })
    }

    pub(crate) fn release_name(&self, name: &str) {
        self.write().by_name.remove(name);
    }

    /// Enters a container whose name is claimed.
    pub(crate) fn insert(&self, handle: Handle, name: &str) {
        let mut index = self.write();
        index.by_name.insert(name.to_owned(), handle.id.clone());
        index.by_id.insert(handle.id.clone(), handle);
    }

    /// Takes a container, its name and its execs out.
    pub(crate) fn remove(&self, id: &str, name: &str) {
        let mut index = self.write();
        index.by_id.remove(id);
        if index.by_name.get(name).is_some_and(|holder| holder == id) {
            index.by_name.remove(name);
        }
        drop(index);
        self.execs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, exec| exec.container_id() != id);
    }

    /// Marks an id as being created until the mark is dropped, so that the sweep leaves it alone.
    pub(crate) fn mark_creating(self: &Arc<Self>, id: &str) -> CreatingMark {
        self.making().insert(id.to_owned());
        CreatingMark { registry: self.clone(), id: id.to_owned() }
    }

    /// Whether an id belongs to a container, made or being made.
    pub(crate) fn knows(&self, id: &str) -> bool {
        // in this order: a creation ends by inserting first and dropping its mark after
        let creating = self.making().contains(id);
        creating || self.read().by_id.contains_key(id)
    }

    /// An exec by its full id.
    pub fn exec(&self, id: &str) -> Result<Arc<ExecCell>, EngineError> {
        let execs = self.execs.read().unwrap_or_else(PoisonError::into_inner);
        execs.get(id).cloned().ok_or_else(|| EngineError::NoSuchExec(id.to_owned()))
    }

    /// Every exec of a container.
    pub fn execs_of(&self, container_id: &str) -> Vec<Arc<ExecCell>> {
        let execs = self.execs.read().unwrap_or_else(PoisonError::into_inner);
        execs.values().filter(|exec| exec.container_id() == container_id).cloned().collect()
    }

    pub(crate) fn insert_exec(&self, exec: Arc<ExecCell>) {
        self.execs.write().unwrap_or_else(PoisonError::into_inner).insert(exec.id().to_owned(), exec);
    }

    pub(crate) fn remove_exec(&self, id: &str) {
        self.execs.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// A name that is taken; given back on drop unless it is kept.
pub struct NameClaim {
    registry: Arc<Registry>,
    name: String,
    kept: bool,
}

impl NameClaim {
    /// The name, without slash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name stays taken.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NameClaim {
    fn drop(&mut self) {
        if !self.kept {
            self.registry.release_name(&self.name);
        }
    }
}

pub(crate) struct CreatingMark {
    registry: Arc<Registry>,
    id: String,
}

impl Drop for CreatingMark {
    fn drop(&mut self) {
        self.registry.making().remove(&self.id);
    }
}
