//! Unpacking a layer of an image as it arrives, and making a committed snapshot of it.
//!
//! An overlay's layer needs no parent to be unpacked: layers of one image are unpacked side by side, and each is
//! completed and committed when its parent is there.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use lifecycle_metadata::{Scope, SnapshotKind};
use wharf_archive::{Applied, Hashing, Limits, Pending, Whiteouts, apply, apply_early};
use wharf_vocab::Labels;

use crate::error::SnapshotError;
use crate::layer::{LayerError, open};
use crate::snapshotter::Snapshotter;

/// A layer being made. Dropped before it is committed, it goes away.
pub struct Layer {
    snapshotter: Snapshotter,
    scope: Scope,
    key: String,
    id: u64,
    state: State,
}

enum State {
    Empty,
    Unpacked(Pending),
    /// The snapshot exists no more under its key.
    Done,
}

impl Snapshotter {
    /// Whether layers can be unpacked before their parents.
    pub fn layers_stand_alone(&self) -> bool {
        self.backend().layers_stand_alone()
    }

    /// Begins a layer in an active snapshot `key`. Where layers stand alone `parent` is best left empty and given
    /// at the commit.
    ///
    /// AlreadyExists for a key in use, and where a label names the layer this is to become and that exists.
    pub fn begin_layer(
        &self,
        scope: &Scope,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Layer, SnapshotError> {
        let (id, _) = self.create_numbered(scope, key, parent, labels, SnapshotKind::Active)?;
        Ok(Layer {
            snapshotter: self.clone(),
            scope: scope.clone(),
            key: key.into(),
            id,
            state: State::Empty,
        })
    }
}

impl Layer {
    /// Unpacks a layer from its compressed bytes, which `input` gives as they come, in one pass. Whether the digests
    /// are the wanted ones is for the caller to see before the commit.
    pub fn unpack(
        &mut self,
        input: impl Read + Send,
        hashing: impl Into<Hashing>,
        limits: Limits,
    ) -> Result<Applied, LayerError> {
        if !matches!(self.state, State::Empty) {
            return Err(LayerError::NotUnpacked);
        }
        let directory = self.directory()?;
        let (applied, pending) = match self.snapshotter.backend().userxattr() {
            Some(userxattr) => apply_early(input, directory.as_fd(), userxattr, hashing, limits)?,
            None => {
                let applied = apply(input, directory.as_fd(), &[], Whiteouts::Remove, hashing, limits)?;
                (applied, Pending::default())
            }
        };
        // here and not at the commit, which waits for the parent: layers side by side share their flushes
        self.snapshotter.flush()?;
        self.state = State::Unpacked(pending);
        Ok(applied)
    }

    /// Completes the layer from its parent (`""` for none), which is committed, makes it durable, and commits it as
    /// `name`. AlreadyExists if somebody else made the same layer: theirs is kept, under the scope's lease.
    pub fn commit(mut self, name: &str, parent: &str, labels: Labels) -> Result<(), LayerError> {
        let State::Unpacked(pending) = std::mem::replace(&mut self.state, State::Empty) else {
            return Err(LayerError::NotUnpacked);
        };
        if self.snapshotter.layers_stand_alone() {
            let directory = self.directory()?;
            let is_changed = !pending.is_empty();
            let lower = self.snapshotter.layers_down_from(&self.scope, parent)?;
            let lower =
                lower.iter().map(|path| open(&path.to_string_lossy())).collect::<Result<Vec<_>, _>>()?;
            let lower: Vec<_> = lower.iter().map(AsFd::as_fd).collect();
            pending.resolve(directory.as_fd(), &lower).map_err(wharf_archive::ApplyError::from)?;
            if is_changed {
                self.snapshotter.flush()?;
            } else {
                // of the root's attributes only
                rustix::fs::fsync(&directory).map_err(|e| LayerError::Sync {
                    path: self.snapshotter.backend().layer(self.id).to_string_lossy().into_owned(),
                    source: e.into(),
                })?;
            }
        }
        self.snapshotter.commit_flushed(&self.scope, name, &self.key, parent, labels)?;
        self.state = State::Done;
        Ok(())
    }

    fn directory(&self) -> Result<OwnedFd, LayerError> {
        open(&self.snapshotter.backend().layer(self.id).to_string_lossy())
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        if !matches!(self.state, State::Done) {
            // what cannot be removed now is the collector's once its lease ends
            let _ = self.snapshotter.remove(&self.scope, &self.key);
        }
    }
}
