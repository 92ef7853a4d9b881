//! The mount of type `cgroup`: what the container sees of the cgroup hierarchies.

use crate::plan::mounts::MountOp;
use crate::plan::options::{Attrs, Param};
use crate::rootfs::RootfsError;
use crate::rootfs::mount::{Late, attach, new_filesystem};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_cgroups::{Mode as CgroupMode, Paths};
use wharf_sys::mount::{MountChange, Propagation, attr, mount_setattr};

/// One hierarchy to show.
#[derive(Debug)]
struct Hierarchy {
    controllers: Vec<String>,
    dir: PathBuf,
    /// A copy of the container's directory; None where the cgroup namespace makes a fresh mount show just that.
    tree: Option<OwnedFd>,
}

/// Opened by the runtime once the cgroup exists; mounted by init.
#[derive(Debug, Default)]
pub struct CgroupView {
    unified: bool,
    hierarchies: Vec<Hierarchy>,
}

impl CgroupView {
    /// What is to be shown of the directories, which may not be there yet.
    pub fn of(paths: &Paths, mode: CgroupMode) -> Self {
        let unified = mode == CgroupMode::Unified;
        let mut by_dir: BTreeMap<&PathBuf, Vec<String>> = BTreeMap::new();
        for (controller, dir) in &paths.0 {
            // on a hybrid host the container gets the v1 hierarchies, as with runc
            if unified || !controller.is_empty() {
                by_dir.entry(dir).or_default().push(controller.clone());
            }
        }
        let hierarchies = by_dir
            .into_iter()
            .map(|(dir, controllers)| Hierarchy { controllers, dir: dir.clone(), tree: None })
            .collect();
        Self { unified, hierarchies }
    }

    /// The number of hierarchies.
    pub fn len(&self) -> usize {
        self.hierarchies.len()
    }

    /// Copies the directories, for a container without a new cgroup namespace of its own.
    pub fn open(&mut self) -> Result<(), RootfsError> {
        for hierarchy in &mut self.hierarchies {
            hierarchy.tree = Some(copy(&hierarchy.dir)?);
        }
        Ok(())
    }

    /// The copies, for an init that is there already.
    pub fn trees(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.hierarchies.iter().filter_map(|h| h.tree.as_ref()).map(AsFd::as_fd)
    }

    /// Takes copies that somebody else has made, in their order.
    pub fn fill(&mut self, trees: impl IntoIterator<Item = OwnedFd>) {
        for (hierarchy, tree) in self.hierarchies.iter_mut().zip(trees) {
            hierarchy.tree = Some(tree);
        }
    }

    /// Mounts the view at an open target.
    pub fn mount(&mut self, target: &OwnedFd, op: &MountOp, late: &mut Vec<Late>) -> Result<(), RootfsError> {
        let attrs = op.attrs;
        if self.unified {
            let hierarchy = self
                .hierarchies
                .first_mut()
                .ok_or_else(|| RootfsError::refused(&op.target, "the container has no cgroup to show"))?;
            let mount = match hierarchy.tree.take() {
                Some(tree) => with_attrs(tree, attrs, &op.target)?,
                None => new_filesystem("cgroup2", "cgroup", &[], attrs)?,
            };
            return attach(&mount, target, &op.target);
        }
        let params = [Param::Pair("mode".into(), "755".into())];
        let rw = Attrs { set: attrs.set & !attr::RDONLY, clear: attrs.clear };
        let tmpfs = new_filesystem("tmpfs", "tmpfs", &params, rw)?;
        attach(&tmpfs, target, &op.target)?;
        for hierarchy in &mut self.hierarchies {
            legacy(hierarchy, &tmpfs, attrs, &op.target)?;
        }
        if attrs.set & attr::RDONLY != 0 {
            late.push(tmpfs);
        }
        Ok(())
    }
}

fn copy(dir: &Path) -> Result<OwnedFd, RootfsError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, dir, flags).map_err(RootfsError::act("opening", dir))
}

fn with_attrs(tree: OwnedFd, attrs: Attrs, path: &Path) -> Result<OwnedFd, RootfsError> {
    let change = MountChange {
        set: attrs.set,
        clear: attrs.clear,
        propagation: Some(Propagation::Slave),
        ..MountChange::default()
    };
    mount_setattr(&tree, c"", &change)
        .map_err(RootfsError::io("setting attributes of the mount at", path))?;
    Ok(tree)
}

/// A v1 hierarchy: a directory named after its controllers, and where it has several a link for each.
fn legacy(hierarchy: &mut Hierarchy, tmpfs: &OwnedFd, attrs: Attrs, path: &Path) -> Result<(), RootfsError> {
    let plain = |c: &String| c.strip_prefix("name=").unwrap_or(c).to_owned();
    let name = hierarchy.controllers.iter().map(plain).collect::<Vec<_>>().join(",");
    let path = path.join(&name);
    mkdirat(tmpfs, name.as_str(), Mode::from_raw_mode(0o755)).map_err(RootfsError::act("creating", &path))?;
    let target =
        openat(tmpfs, name.as_str(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(RootfsError::act("opening", &path))?;
    let mount = match hierarchy.tree.take() {
        Some(tree) => with_attrs(tree, attrs, &path)?,
        None => {
            let mut params = Vec::new();
            for controller in &hierarchy.controllers {
                match controller.strip_prefix("name=") {
                    Some(name) => {
                        params.push(Param::Flag("none".into()));
                        params.push(Param::Pair("name".into(), name.into()));
                    }
                    None => params.push(Param::Flag(controller.clone())),
                }
            }
            new_filesystem("cgroup", "cgroup", &params, attrs)?
        }
    };
    attach(&mount, &target, &path)?;
    if hierarchy.controllers.len() > 1 {
        for controller in hierarchy.controllers.iter().map(plain) {
            symlinkat(name.as_str(), tmpfs, controller.as_str())
                .map_err(RootfsError::act("linking", path.with_file_name(&controller)))?;
        }
    }
    Ok(())
}
