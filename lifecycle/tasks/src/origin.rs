//! What a task begins from: nothing, or a checkpoint.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bundle::{Bundle, failed};
use crate::error::TaskError;
use crate::tasks::Tasks;

/// In a bundle, the checkpoint that was brought for it.
const FOLDER: &str = "checkpoint";

/// What a task begins from.
#[derive(Debug, Default)]
pub enum Origin {
    /// Its process, from the start.
    #[default]
    Fresh,
    /// A checkpoint in somebody's folder.
    Checkpoint(String),
    /// A checkpoint that was brought for this task and goes with it.
    Staged(Staging),
}

impl Origin {
    /// The checkpoint's folder as the shim is told it; empty for none.
    pub(crate) fn path(&self, bundle: &Bundle) -> String {
        match self {
            Origin::Fresh => String::new(),
            Origin::Checkpoint(path) => path.clone(),
            Origin::Staged(_) => bundle.path.join(FOLDER).to_string_lossy().into_owned(),
        }
    }
}

/// A folder for a checkpoint on its way, removed on drop unless it was moved into a bundle. It is hidden among the
/// bundles, so that the next start removes what a killed daemon left.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
}

impl Staging {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn move_into(&self, bundle: &Bundle) -> Result<(), TaskError> {
        Ok(fs::rename(&self.path, bundle.path.join(FOLDER))
            .map_err(failed("move checkpoint to its bundle", &self.path))?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // it may have been moved; otherwise the next start tries again
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Tasks {
    /// An empty folder for a checkpoint, mode 0700, on the file system of the bundles.
    pub fn staging(&self, namespace: &str) -> Result<Staging, TaskError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let parent = self.shared.config.state.join(namespace);
        let path = parent.join(format!(".checkpoint-{}-{number}", std::process::id()));
        let make = |mode: u32, parents: bool, path: &Path| {
            fs::DirBuilder::new()
                .mode(mode)
                .recursive(parents)
                .create(path)
                .map_err(failed("make folder", path))
        };
        make(0o711, true, &parent)?;
        make(0o700, false, &path)?;
        Ok(Staging { path })
    }
}
