//! The life of snapshots: reserve a number, make the directory, record; unrecord, remove the directory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle_metadata::{Commit, Metadata, NewSnapshot, Reclaim, Scope, SnapshotInfo, SnapshotKind, Usage};
use wharf_failpoints::{Point, hit};
use wharf_vocab::Labels;

use crate::error::SnapshotError;
use crate::mount::Mount;
use crate::overlay::Overlay;

/// The only snapshotter so far, under the name that containerd gives it.
pub const OVERLAYFS: &str = "overlayfs";

/// Snapshots on overlayfs; cheap to clone.
#[derive(Clone)]
pub struct Snapshotter(Arc<Inner>);

struct Inner {
    metadata: Metadata,
    overlay: Overlay,
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
            let _ = self.inner.overlay.remove(self.id);
        }
        self.inner.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Snapshotter {
    /// Opens `root`, and removes what a crash left without a record.
    pub fn open(root: &Path, metadata: Metadata) -> Result<Self, SnapshotError> {
        let overlay = Overlay::open(root)?;
        let (_, highest) = metadata.snapshots().in_use(OVERLAYFS)?;
        let highest = overlay.ids()?.into_iter().fold(highest, u64::max);
        let next = AtomicU64::new(highest + 1);
        let snapshotter =
            Snapshotter(Arc::new(Inner { metadata, overlay, next, reserved: Mutex::default() }));
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
        let inner = &*self.0;
        let records = inner.metadata.snapshots();
        let mut new = NewSnapshot { key, parent, kind, labels, id: 0 };
        let ancestors = records.plan(scope, OVERLAYFS, &new)?;
        let mut reservation = inner.reserve();
        inner.overlay.create(reservation.id, kind, ancestors.first().copied())?;
        new.id = reservation.id;
        hit(Point::SnapshotPreparePlaced);
        records.create(scope, OVERLAYFS, new)?;
        hit(Point::SnapshotPrepareRecorded);
        reservation.kept = true;
        Ok(inner.overlay.mounts(reservation.id, kind, &ancestors))
    }

    /// The mounts of an active snapshot or a view, again.
    pub fn mounts(&self, scope: &Scope, key: &str) -> Result<Vec<Mount>, SnapshotError> {
        let records = self.0.metadata.snapshots();
        let info = records.get(scope, OVERLAYFS, key)?;
        if info.record.kind == SnapshotKind::Committed {
            return Err(SnapshotError::Committed(key.into()));
        }
        let ancestors = records.ancestors(scope, OVERLAYFS, key)?;
        Ok(self.0.overlay.mounts(info.record.id, info.record.kind, &ancestors))
    }

    /// Turns an active snapshot into a layer called `name`. A snapshot prepared on nothing may be given a parent.
    pub fn commit(
        &self,
        scope: &Scope,
        name: &str,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<(), SnapshotError> {
        hit(Point::SnapshotCommitFlushed);
        self.0.metadata.snapshots().commit(scope, OVERLAYFS, Commit { name, key, parent, labels })?;
        hit(Point::SnapshotCommitRecorded);
        Ok(())
    }

    /// FailedPrecondition while another snapshot stands on this one.
    pub fn remove(&self, scope: &Scope, key: &str) -> Result<(), SnapshotError> {
        let removed = self.0.metadata.snapshots().remove(scope, OVERLAYFS, key)?;
        hit(Point::SnapshotRemoveRecorded);
        self.0.overlay.remove(removed.id)
    }

    pub fn stat(&self, scope: &Scope, key: &str) -> Result<SnapshotInfo, SnapshotError> {
        Ok(self.0.metadata.snapshots().get(scope, OVERLAYFS, key)?)
    }

    pub fn list(&self, scope: &Scope, filters: &[String]) -> Result<Vec<SnapshotInfo>, SnapshotError> {
        Ok(self.0.metadata.snapshots().list(scope, OVERLAYFS, filters)?)
    }

    /// Paths: `labels`, `labels.k`. An empty mask replaces the labels.
    pub fn update(
        &self,
        scope: &Scope,
        key: &str,
        labels: &Labels,
        mask: &[String],
    ) -> Result<SnapshotInfo, SnapshotError> {
        Ok(self.0.metadata.snapshots().update(scope, OVERLAYFS, key, labels, mask)?)
    }

    /// What the snapshot itself takes, without its parents. A committed one is measured once.
    pub fn usage(&self, scope: &Scope, key: &str) -> Result<Usage, SnapshotError> {
        let records = self.0.metadata.snapshots();
        let info = records.get(scope, OVERLAYFS, key)?;
        if let Some(usage) = info.record.usage {
            return Ok(usage);
        }
        match info.record.kind {
            SnapshotKind::View => Ok(Usage::default()),
            SnapshotKind::Active => self.0.overlay.usage(info.record.id),
            SnapshotKind::Committed => {
                let usage = self.0.overlay.usage(info.record.id)?;
                records.set_usage(scope, OVERLAYFS, key, usage)?;
                Ok(usage)
            }
        }
    }

    /// Removes directories without a record. How many there were; the first failure, after trying all.
    pub fn sweep(&self) -> Result<u64, SnapshotError> {
        let inner = &*self.0;
        let (mut removed, mut failed) = inner.overlay.finish_removals()?;
        // directories first: one made after this look is not judged
        let present = inner.overlay.ids()?;
        let reserved = inner.reserved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (recorded, _) = inner.metadata.snapshots().in_use(OVERLAYFS)?;
        for id in present {
            if !recorded.contains(&id) && !reserved.contains(&id) {
                match inner.overlay.remove(id) {
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
        OVERLAYFS
    }

    fn reclaim(&self) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.sweep()?)
    }
}
