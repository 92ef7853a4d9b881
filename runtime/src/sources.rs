//! Detached copies of the host's mounts that the container will see: made by the runtime before init exists.
//!
//! A source is looked up once, by the one who has the right to (init may be a nobody on the host), before anything has
//! been created; from then on only the descriptor is used, so there is no path left to race. Only sources below the
//! container's own root are opened later, by init and without leaving that root.

use crate::plan::ContainerPlan;
use crate::plan::devices::{Device, DeviceKind};
use crate::plan::mounts::{IdMap, Ids, MountKind, MountOp};
use crate::plan::options::Attrs;
use crate::rootfs::RootfsError;
use crate::rootfs::mount::clone_of;
use crate::rootfs::resolve::Root;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, statat};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wharf_sys::mount::{MountChange, Propagation, mount_setattr};

/// A detached mount tree.
#[derive(Debug)]
pub struct Tree {
    pub fd: OwnedFd,
    pub is_dir: bool,
}

/// Where a bind mount comes from.
#[derive(Debug)]
pub enum Source {
    Tree(Tree),
    /// To be opened below the container's root when its turn comes, since mounts of the container may be part of it.
    Inside {
        /// Of the mapping, if it is to be id-mapped.
        users: Option<OwnedFd>,
    },
}

/// All host mounts a container needs.
#[derive(Debug)]
pub struct Sources {
    pub rootfs: Tree,
    /// By index of the mount operation; None for what is no bind mount.
    pub binds: Vec<Option<Source>>,
    /// By index of the device; only where device nodes cannot be made (user namespaces).
    pub devices: Vec<Option<Tree>>,
}

/// Opens everything. `devices` are all device nodes, defaults included.
pub fn open(plan: &ContainerPlan, devices: &[Device]) -> Result<Sources, RootfsError> {
    let keep_shared = keep_shared(plan);
    let rootfs = clone_tree(&plan.rootfs, true)?;
    if !rootfs.is_dir {
        return Err(RootfsError::refused(&plan.rootfs, "the root filesystem is not a directory"));
    }
    if !keep_shared {
        change(&rootfs, &plan.rootfs, Attrs::default(), Some(Propagation::Slave), true)?;
    }
    let mut binds = Vec::with_capacity(plan.mounts.len());
    for op in &plan.mounts {
        binds.push(
            open_source(op, keep_shared)
                .map_err(|e| RootfsError::Mount { at: op.at.clone(), source: Box::new(e) })?,
        );
    }
    let devices = if plan.namespaces.has_user() || crate::rootless::in_user_namespace() {
        devices.iter().map(device).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    Ok(Sources { rootfs, binds, devices })
}

/// Whether mounts of the container stay peers of the host's.
pub fn keep_shared(plan: &ContainerPlan) -> bool {
    matches!(plan.root_propagation, Some((Propagation::Shared, _)))
}

/// The source of one more mount, None if it is no bind mount.
pub fn open_one(op: &MountOp) -> Result<Option<Source>, RootfsError> {
    open_source(op, false)
}

fn open_source(op: &MountOp, keep_shared: bool) -> Result<Option<Source>, RootfsError> {
    let MountKind::Bind { source, inside, recursive, idmap } = &op.kind else { return Ok(None) };
    let users = idmap.as_ref().map(|map| mapping(map, source)).transpose()?;
    if inside.is_some() {
        return Ok(Some(Source::Inside { users }));
    }
    let tree = clone_tree(source, *recursive)?;
    prepare(&tree, op, source, *recursive, keep_shared)?;
    if let (Some(map), Some(users)) = (idmap, &users) {
        id_map(&tree.fd, users, map.recursive).map_err(RootfsError::io("id-mapping the mount of", source))?;
    }
    Ok(Some(Source::Tree(tree)))
}

/// A source below the container's root, with the mounts that were made there so far. What is found at the path now
/// counts, and no symlink leads out of the root.
pub fn open_inside(
    root: &Root,
    op: &MountOp,
    path: &Path,
    recursive: bool,
    keep_shared: bool,
) -> Result<Tree, RootfsError> {
    let found = root.open(path, OFlags::PATH).map_err(RootfsError::act("opening", path))?;
    let fd = clone_of(&found, path, recursive)?;
    let stat = fstat(&fd).map_err(RootfsError::act("looking at", path))?;
    let tree = Tree { fd, is_dir: FileType::from_raw_mode(stat.st_mode) == FileType::Directory };
    prepare(&tree, op, path, recursive, keep_shared)?;
    Ok(tree)
}

/// A user namespace with the mapping of a mount.
fn mapping(map: &IdMap, source: &Path) -> Result<OwnedFd, RootfsError> {
    match &map.ids {
        Ids::Given { uid, gid } => crate::idmap::user_namespace(uid, gid)
            .map_err(RootfsError::io("making the user namespace for the id-mapped mount of", source)),
        Ids::As(path) => rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(RootfsError::act("opening the user namespace", path)),
    }
}

/// Gives a detached mount the mapping of a user namespace.
pub fn id_map(tree: impl AsFd, users: impl AsFd, recursive: bool) -> std::io::Result<()> {
    let change = MountChange { idmap: Some(users.as_fd()), recursive, ..MountChange::default() };
    mount_setattr(tree.as_fd(), c"", &change)
}

fn clone_tree(path: &Path, recursive: bool) -> Result<Tree, RootfsError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let fd = open_tree(CWD, path, flags).map_err(RootfsError::act("opening", path))?;
    let stat = fstat(&fd).map_err(RootfsError::act("looking at", path))?;
    Ok(Tree { fd, is_dir: FileType::from_raw_mode(stat.st_mode) == FileType::Directory })
}

fn change(
    tree: &Tree,
    path: &Path,
    attrs: Attrs,
    propagation: Option<Propagation>,
    recursive: bool,
) -> Result<(), RootfsError> {
    let change = MountChange { set: attrs.set, clear: attrs.clear, propagation, idmap: None, recursive };
    mount_setattr(&tree.fd, c"", &change).map_err(RootfsError::io("setting attributes of the mount of", path))
}

/// Gives a copy of a source the attributes and the propagation that are asked for.
fn prepare(
    tree: &Tree,
    op: &MountOp,
    source: &Path,
    recursive: bool,
    keep_shared: bool,
) -> Result<(), RootfsError> {
    // A clone of a shared mount is a peer of the host's: whatever is mounted on it would appear on the host. Slave first,
    // unless what is asked for cuts the tie anyhow.
    let cuts = op
        .propagation
        .iter()
        .any(|(p, rec)| matches!(p, Propagation::Private | Propagation::Unbindable) && (*rec || !recursive));
    if !keep_shared && !cuts {
        change(tree, source, Attrs::default(), Some(Propagation::Slave), true)?;
    }
    match op.propagation.as_slice() {
        // one call where all of it applies to the same mounts
        [(p, rec)] if *rec == recursive && !recursive => change(tree, source, op.attrs, Some(*p), false)?,
        list => {
            for (p, rec) in list {
                change(tree, source, Attrs::default(), Some(*p), *rec)?;
            }
            if !op.attrs.is_empty() {
                change(tree, source, op.attrs, None, false)?;
            }
        }
    }
    if !op.recursive_attrs.is_empty() {
        change(tree, source, op.recursive_attrs, None, true)?;
    }
    Ok(())
}

/// A host device to bind where making nodes is not allowed. Its numbers are verified, so that a host path that is
/// something else is never handed in.
fn device(device: &Device) -> Result<Option<Tree>, RootfsError> {
    let (want, major, minor) = match device.kind {
        DeviceKind::Char(major, minor) => (FileType::CharacterDevice, major, minor),
        DeviceKind::Block(major, minor) => (FileType::BlockDevice, major, minor),
        DeviceKind::Fifo => return Ok(None),
    };
    let path = &device.path;
    let tree = clone_tree(path, false)?;
    let stat = statat(&tree.fd, "", AtFlags::EMPTY_PATH).map_err(RootfsError::act("looking at", path))?;
    if FileType::from_raw_mode(stat.st_mode) != want || stat.st_rdev != rustix::fs::makedev(major, minor) {
        return Err(RootfsError::refused(path, format!("is not the device {major}:{minor} on the host")));
    }
    change(&tree, path, Attrs::default(), Some(Propagation::Private), false)?;
    Ok(Some(tree))
}
