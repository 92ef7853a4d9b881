//! Directories of snapshots and the mounts over them, for each way of layering.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lifecycle_metadata::{SnapshotKind, Usage};
use rustix::fs::{IFlags, XattrFlags};
use rustix::io::Errno;
use wharf_archive::{copy_tree, remove_tree, tree_usage};

use crate::error::SnapshotError;
use crate::mapping::IdMapping;
use crate::mount::Mount;

/// The prefix of directories whose removal has begun.
const REMOVING: &str = "removing-";

/// How a snapshot comes to show what its parents hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The kernel lays the directories over each other.
    Overlay {
        /// In a user namespace overlay keeps its marks under `user.`.
        userxattr: bool,
        /// The kernel has the `index` feature, which must be off: layers are shared by many mounts.
        has_index: bool,
    },
    /// Each snapshot is a whole copy.
    Native,
}

/// `<root>/<number>/{fs,work}`: a layer, and overlay's own working directory for active ones.
#[derive(Debug)]
pub(crate) struct Backend {
    root: PathBuf,
    form: Form,
}

impl Backend {
    /// Makes the directory if it is not there, and looks what the kernel and the file system can do.
    pub(crate) fn overlay(root: &Path) -> Result<Self, SnapshotError> {
        let text = root.to_str().filter(|text| !text.contains([':', ',', '\\']));
        if text.is_none() {
            return Err(SnapshotError::Root {
                path: root.into(),
                reason: "no colon, comma or backslash, UTF-8",
            });
        }
        make_root(root)?;
        let directory = File::open(root).map_err(SnapshotError::io("open", root))?;
        let probe = rustix::fs::fsetxattr(&directory, c"trusted.overlay.wharf", b"y", XattrFlags::empty());
        let userxattr = probe == Err(Errno::PERM);
        let _ = rustix::fs::fremovexattr(&directory, c"trusted.overlay.wharf");
        let has_index = Path::new("/sys/module/overlay/parameters/index").exists();
        Ok(Backend { root: root.into(), form: Form::Overlay { userxattr, has_index } })
    }

    /// Copies of whole directories.
    pub(crate) fn native(root: &Path) -> Result<Self, SnapshotError> {
        make_root(root)?;
        Ok(Backend { root: root.into(), form: Form::Native })
    }

    /// Whether a layer means the same whatever lies below it.
    pub(crate) fn layers_stand_alone(&self) -> bool {
        matches!(self.form, Form::Overlay { .. })
    }

    /// Where overlay keeps its marks; `None` where there are none.
    pub(crate) fn userxattr(&self) -> Option<bool> {
        match self.form {
            Form::Overlay { userxattr, .. } => Some(userxattr),
            Form::Native => None,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn layer(&self, id: u64) -> PathBuf {
        self.directory(id).join("fs")
    }

    fn directory(&self, id: u64) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// Makes the directories of a new snapshot; its root looks like its parent's.
    pub(crate) fn create(
        &self,
        id: u64,
        kind: SnapshotKind,
        parent: Option<u64>,
        mapping: Option<&IdMapping>,
    ) -> Result<(), SnapshotError> {
        let directory = self.directory(id);
        let make = |path: &Path, mode| {
            fs::DirBuilder::new().mode(mode).create(path).map_err(SnapshotError::io("create", path))
        };
        make(&directory, 0o700)?;
        let layer = self.layer(id);
        make(&layer, 0o755)?;
        let mut mode = 0o755;
        if self.form == Form::Native {
            if let Some(parent) = parent.filter(|_| kind == SnapshotKind::Active) {
                let below = self.layer(parent);
                let open = |path: &Path| File::open(path).map_err(SnapshotError::io("open", path));
                copy_tree(open(&below)?.as_fd(), open(&layer)?.as_fd())
                    .map_err(SnapshotError::io("copy", &below))?;
            }
            return fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))
                .map_err(SnapshotError::io("set the mode of", &directory));
        }
        if let Some(parent) = parent {
            let below = self.layer(parent);
            let meta = fs::symlink_metadata(&below).map_err(SnapshotError::io("look at", below))?;
            std::os::unix::fs::chown(&layer, Some(meta.uid()), Some(meta.gid()))
                .map_err(SnapshotError::io("change the owner of", &layer))?;
            mode = meta.mode() & 0o7777;
        }
        if let Some(mapping) = mapping {
            // the mapped root user owns the root, whatever the parent's owner
            std::os::unix::fs::chown(&layer, mapping.root_user(), mapping.root_group())
                .map_err(SnapshotError::io("change the owner of", &layer))?;
        }
        fs::set_permissions(&layer, fs::Permissions::from_mode(mode))
            .map_err(SnapshotError::io("set the mode of", &layer))?;
        if kind == SnapshotKind::Active {
            make(&directory.join("work"), 0o711)?;
        }
        // a mapped root user must reach the layer through this directory
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))
            .map_err(SnapshotError::io("set the mode of", &directory))
    }

    /// What to mount to see the snapshot. `ancestors` are the layers below, the nearest first.
    pub(crate) fn mounts(
        &self,
        id: u64,
        kind: SnapshotKind,
        ancestors: &[u64],
        mapping: Option<&IdMapping>,
    ) -> Vec<Mount> {
        let shown = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut options = Vec::new();
        if let (Some(mapping), Form::Overlay { .. }) = (mapping, self.form) {
            options.extend(mapping.options());
        }
        let bind = |layer: u64, access: &str| Mount {
            kind: "bind".into(),
            source: shown(self.layer(layer)),
            target: String::new(),
            options: [options.clone(), vec![access.into(), "rbind".into()]].concat(),
        };
        let Form::Overlay { userxattr, has_index } = self.form else {
            return match (kind, ancestors.first()) {
                (SnapshotKind::View, Some(&parent)) => vec![bind(parent, "ro")],
                (SnapshotKind::View, None) => vec![bind(id, "ro")],
                _ => vec![bind(id, "rw")],
            };
        };
        match (kind, ancestors) {
            (SnapshotKind::Active, []) => return vec![bind(id, "rw")],
            (_, []) => return vec![bind(id, "ro")],
            (SnapshotKind::Active, _) => {
                options.push(format!("workdir={}", shown(self.directory(id).join("work"))));
                options.push(format!("upperdir={}", shown(self.layer(id))));
            }
            (_, [only]) => return vec![bind(*only, "ro")],
            _ => {}
        }
        let lower: Vec<String> = ancestors.iter().map(|&layer| shown(self.layer(layer))).collect();
        options.push(format!("lowerdir={}", lower.join(":")));
        if has_index {
            options.push("index=off".into());
        }
        if userxattr {
            options.push("userxattr".into());
        }
        vec![Mount { kind: "overlay".into(), source: "overlay".into(), target: String::new(), options }]
    }

    pub(crate) fn usage(&self, id: u64) -> Result<Usage, SnapshotError> {
        let layer = self.layer(id);
        let directory = File::open(&layer).map_err(SnapshotError::io("open", &layer))?;
        let usage = tree_usage(directory.as_fd()).map_err(SnapshotError::io("measure", &layer))?;
        Ok(Usage { size: usage.bytes, inodes: usage.inodes })
    }

    /// Removes a snapshot's directories. The name is gone at once; the rest, if this is interrupted, at the next
    /// sweep.
    pub(crate) fn remove(&self, id: u64) -> Result<(), SnapshotError> {
        let directory = self.directory(id);
        let doomed = format!("{REMOVING}{id}");
        match fs::rename(&directory, self.root.join(&doomed)) {
            Ok(()) => self.remove_entry(&doomed),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(SnapshotError::io("rename", directory)(e)),
        }
    }

    fn remove_entry(&self, name: &str) -> Result<(), SnapshotError> {
        let path = self.root.join(name);
        let root = File::open(&self.root).map_err(SnapshotError::io("open", &self.root))?;
        let name = CString::new(name).map_err(SnapshotError::io("remove", &path))?;
        remove_tree(root.as_fd(), &name).map_err(SnapshotError::io("remove", &path))
    }

    /// The numbers that have directories.
    pub(crate) fn ids(&self) -> Result<Vec<u64>, SnapshotError> {
        Ok(self.names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Finishes removals that were interrupted. How many there were, and the first failure, after trying all.
    pub(crate) fn finish_removals(&self) -> Result<(u64, Option<SnapshotError>), SnapshotError> {
        let (mut count, mut failed) = (0, None);
        for name in self.names()?.iter().filter(|name| name.starts_with(REMOVING)) {
            match self.remove_entry(name) {
                Ok(()) => count += 1,
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        Ok((count, failed))
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let list = || -> std::io::Result<Vec<String>> {
            fs::read_dir(&self.root)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
        };
        list().map_err(SnapshotError::io("list", &self.root))
    }
}

fn make_root(root: &Path) -> Result<(), SnapshotError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(SnapshotError::io("create", root))?;
    spread(root);
    Ok(())
}

/// Asks an ext file system to give each snapshot a block group of its own, as it does for users' homes, rather than
/// that of this directory. Layers side by side then do not wait for each other's bitmaps, and what is unpacked soon
/// after a removal does not search past every inode just freed: ext4 leaves those alone for up to five minutes, and
/// the search begins again at each new file.
fn spread(root: &Path) {
    let set = || {
        let root = File::open(root)?;
        let flags = rustix::fs::ioctl_getflags(&root)?;
        if !flags.contains(IFlags::TOPDIR) {
            rustix::fs::ioctl_setflags(&root, flags | IFlags::TOPDIR)?;
        }
        Ok::<_, std::io::Error>(())
    };
    // a hint that other file systems, and a user namespace, refuse: nothing depends on it
    let _ = set();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_spread_over_the_file_system_where_it_can_do_that() {
        let dir = tempfile::tempdir().unwrap();
        let probe = dir.path().join("probe");
        fs::create_dir(&probe).unwrap();
        let flags = |path: &Path| rustix::fs::ioctl_getflags(File::open(path).unwrap());
        let can = flags(&probe).is_ok_and(|flags| {
            let probe = File::open(&probe).unwrap();
            rustix::fs::ioctl_setflags(&probe, flags | IFlags::TOPDIR).is_ok()
        });
        let root = dir.path().join("root");
        // also one that an earlier start has made
        for _ in 0..2 {
            Backend::native(&root).unwrap();
            assert_eq!(flags(&root).is_ok_and(|flags| flags.contains(IFlags::TOPDIR)), can);
        }
        let backend = Backend::native(&root).unwrap();
        backend.create(1, SnapshotKind::Active, None, None).unwrap();
        let layer = flags(&backend.layer(1));
        assert!(
            !layer.is_ok_and(|flags| flags.contains(IFlags::TOPDIR)),
            "what is in a layer stays together"
        );
    }
}
