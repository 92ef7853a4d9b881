//! The life of snapshots: reserve a number, make the directory, record; unrecord, remove the directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle_metadata::{Commit, Metadata, NewSnapshot, Reclaim, Scope, SnapshotInfo, SnapshotKind, Usage};
use wharf_failpoints::{Point, hit};
use wharf_vocab::Labels;

use crate::backend::Backend;
use crate::error::SnapshotError;
use crate::flush::{Flushes, flush_few};
use crate::mapping::IdMapping;
use crate::mount::Mount;

/// Layers laid over each other by the kernel, under the name that containerd gives it.
pub const OVERLAYFS: &str = "overlayfs";

/// A whole copy for each snapshot, for file systems that overlayfs does not take.
pub const NATIVE: &str = "native";

/// Snapshots of one kind; cheap to clone.
#[derive(Clone)]
pub struct Snapshotter(Arc<Inner>);

struct Inner {
    metadata: Metadata,
    name: &'static str,
    backend: Backend,
    flushes: Flushes,
    next: AtomicU64,
    /// Numbers whose directory is made and whose record is not yet.
    reserved: Mutex<BTreeSet<u64>>,
}

/// A reserved number; what was made for it goes away unless it is kept.
struct Reservation<'a> {
    inner: &'a Inner,
    id: u64,
    kept: bool,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // what cannot be removed now has no record and is swept later
            let _ = self.inner.backend.remove(self.id);
        }
        self.inner.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Snapshotter {
    /// Snapshots on overlayfs in `root`; what a crash left without a record is removed.
    pub fn open(root: &Path, metadata: Metadata) -> Result<Self, SnapshotError> {
        Self::start(OVERLAYFS, Backend::overlay(root)?, metadata)
    }

    /// The same with whole copies.
    pub fn open_native(root: &Path, metadata: Metadata) -> Result<Self, SnapshotError> {
        Self::start(NATIVE, Backend::native(root)?, metadata)
    }

    fn start(name: &'static str, backend: Backend, metadata: Metadata) -> Result<Self, SnapshotError> {
        let (_, highest) = metadata.snapshots().in_use(name)?;
        let highest = backend.ids()?.into_iter().fold(highest, u64::max);
        let snapshotter = Snapshotter(Arc::new(Inner {
            metadata,
            name,
            backend,
            flushes: Flushes::default(),
            next: AtomicU64::new(highest + 1),
            reserved: Mutex::default(),
        }));
        // a directory that cannot be removed must not keep the rest from being served; the collector tries again
        // and reports
        let _ = snapshotter.sweep();
        Ok(snapshotter)
    }

    /// A writable snapshot on a committed parent, or on nothing (`""`).
    ///
    /// AlreadyExists for a key in use, and where a label names the layer this is to become and that exists.
    pub fn prepare(
        &self,
        scope: &Scope,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, SnapshotError> {
        self.create(scope, key, parent, labels, SnapshotKind::Active)
    }

    /// A read-only snapshot.
    pub fn view(
        &self,
        scope: &Scope,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, SnapshotError> {
        self.create(scope, key, parent, labels, SnapshotKind::View)
    }

    fn create(
        &self,
        scope: &Scope,
        key: &str,
        parent: &str,
        labels: Labels,
        kind: SnapshotKind,
    ) -> Result<Vec<Mount>, SnapshotError> {
        Ok(self.create_numbered(scope, key, parent, labels, kind)?.1)
    }

    /// Also gives the number of the directory.
    pub(crate) fn create_numbered(
        &self,
        scope: &Scope,
        key: &str,
        parent: &str,
        labels: Labels,
        kind: SnapshotKind,
    ) -> Result<(u64, Vec<Mount>), SnapshotError> {
        let inner = &*self.0;
        let mapping = IdMapping::of(&labels)?;
        let mapping = mapping.as_ref();
        let records = inner.metadata.snapshots();
        let mut new = NewSnapshot { key, parent, kind, labels, id: 0 };
        let ancestors = records.plan(scope, inner.name, &new)?;
        let mut reservation = inner.reserve();
        let id = reservation.id;
        inner.backend.create(id, kind, ancestors.first().copied(), mapping)?;
        new.id = id;
        hit(Point::SnapshotPreparePlaced);
        records.create(scope, inner.name, new)?;
        hit(Point::SnapshotPrepareRecorded);
        reservation.kept = true;
        Ok((id, inner.backend.mounts(id, kind, &ancestors, mapping)))
    }

    /// The mounts of an active snapshot or a view, again.
    pub fn mounts(&self, scope: &Scope, key: &str) -> Result<Vec<Mount>, SnapshotError> {
        let records = self.0.metadata.snapshots();
        let info = records.get(scope, self.0.name, key)?;
        if info.record.kind == SnapshotKind::Committed {
            return Err(SnapshotError::Committed(key.into()));
        }
        let ancestors = records.ancestors(scope, self.0.name, key)?;
        let mapping = IdMapping::of(&info.record.labels)?;
        Ok(self.0.backend.mounts(info.record.id, info.record.kind, &ancestors, mapping.as_ref()))
    }

    /// Turns an active snapshot into a layer called `name`. A snapshot prepared on nothing may be given a parent
    /// where layers stand alone. Its files are on disk before its record is.
    pub fn commit(
        &self,
        scope: &Scope,
        name: &str,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<(), SnapshotError> {
        // a snapshot that is not there or not active is refused below
        if let Ok(info) = self.stat(scope, key)
            && info.record.kind == SnapshotKind::Active
        {
            self.flush_layer(info.record.id)?;
        }
        self.commit_flushed(scope, name, key, parent, labels)
    }

    /// One layer is on disk when this returns. A small one does not wait for what others write.
    fn flush_layer(&self, id: u64) -> Result<(), SnapshotError> {
        let layer = self.0.backend.layer(id);
        let directory = std::fs::File::open(&layer).map_err(SnapshotError::io("open", &layer))?;
        if !flush_few(&directory).map_err(SnapshotError::io("flush", &layer))? {
            return self.flush();
        }
        // the names that lead to it
        for above in layer.ancestors().skip(1).take(2) {
            wharf_store::file::sync_directory(above).map_err(SnapshotError::io("flush", above))?;
        }
        Ok(())
    }

    /// The same for a layer that is on disk.
    pub(crate) fn commit_flushed(
        &self,
        scope: &Scope,
        name: &str,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<(), SnapshotError> {
        if !self.layers_stand_alone() && !parent.is_empty() {
            let info = self.stat(scope, key)?;
            if info.record.parent != parent {
                return Err(SnapshotError::Rebase(key.into()));
            }
        }
        hit(Point::SnapshotCommitFlushed);
        self.0.metadata.snapshots().commit(scope, self.0.name, Commit { name, key, parent, labels })?;
        hit(Point::SnapshotCommitRecorded);
        Ok(())
    }

    /// Everything written to snapshots before this call is on disk when it returns.
    pub(crate) fn flush(&self) -> Result<(), SnapshotError> {
        let root = self.0.backend.root();
        let directory = std::fs::File::open(root).map_err(SnapshotError::io("open", root))?;
        self.0.flushes.flush(&directory).map_err(SnapshotError::io("flush", root))
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    /// The name that clients know it by.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The directories of a committed snapshot and its ancestors, the nearest first; none for `""`.
    pub(crate) fn layers_down_from(&self, scope: &Scope, name: &str) -> Result<Vec<PathBuf>, SnapshotError> {
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let info = self.stat(scope, name)?;
        let ancestors = self.0.metadata.snapshots().ancestors(scope, self.0.name, name)?;
        let all = std::iter::once(info.record.id).chain(ancestors);
        Ok(all.map(|id| self.0.backend.layer(id)).collect())
    }

    /// FailedPrecondition while another snapshot stands on this one.
    pub fn remove(&self, scope: &Scope, key: &str) -> Result<(), SnapshotError> {
        let removed = self.0.metadata.snapshots().remove(scope, self.0.name, key)?;
        hit(Point::SnapshotRemoveRecorded);
        self.0.backend.remove(removed.id)
    }

    pub fn stat(&self, scope: &Scope, key: &str) -> Result<SnapshotInfo, SnapshotError> {
        Ok(self.0.metadata.snapshots().get(scope, self.0.name, key)?)
    }

    pub fn list(&self, scope: &Scope, filters: &[String]) -> Result<Vec<SnapshotInfo>, SnapshotError> {
        Ok(self.0.metadata.snapshots().list(scope, self.0.name, filters)?)
    }

    /// Paths: `labels`, `labels.k`. An empty mask replaces the labels.
    pub fn update(
        &self,
        scope: &Scope,
        key: &str,
        labels: &Labels,
        mask: &[String],
    ) -> Result<SnapshotInfo, SnapshotError> {
        Ok(self.0.metadata.snapshots().update(scope, self.0.name, key, labels, mask)?)
    }

    /// What the snapshot itself takes, without its parents. A committed one is measured once.
    pub fn usage(&self, scope: &Scope, key: &str) -> Result<Usage, SnapshotError> {
        let records = self.0.metadata.snapshots();
        let info = records.get(scope, self.0.name, key)?;
        if let Some(usage) = info.record.usage {
            return Ok(usage);
        }
        match info.record.kind {
            SnapshotKind::View => Ok(Usage::default()),
            SnapshotKind::Active => self.0.backend.usage(info.record.id),
            SnapshotKind::Committed => {
                let usage = self.0.backend.usage(info.record.id)?;
                records.set_usage(scope, self.0.name, key, usage)?;
                Ok(usage)
            }
        }
    }

    /// Removes directories without a record. How many there were; the first failure, after trying all.
    pub fn sweep(&self) -> Result<u64, SnapshotError> {
        let inner = &*self.0;
        let (mut removed, mut failed) = inner.backend.finish_removals()?;
        // directories first: one made after this look is not judged
        let present = inner.backend.ids()?;
        if present.is_empty() {
            return failed.map_or(Ok(removed), Err);
        }
        let reserved = inner.reserved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (recorded, _) = inner.metadata.snapshots().in_use(inner.name)?;
        for id in present {
            if !recorded.contains(&id) && !reserved.contains(&id) {
                match inner.backend.remove(id) {
                    Ok(()) => removed += 1,
                    Err(e) => failed = failed.or(Some(e)),
                }
                hit(Point::CollectorReclaim);
            }
        }
        failed.map_or(Ok(removed), Err)
    }
}

impl Inner {
    fn reserve(&self) -> Reservation<'_> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        reserved.insert(id);
        Reservation { inner: self, id, kept: false }
    }
}

impl Reclaim for Snapshotter {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn reclaim(&self) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.sweep()?)
    }
}
