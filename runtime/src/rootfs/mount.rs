//! Making the mounts of the plan below the root.

use super::resolve::{Root, Target};
use super::{RootfsError, copyup};
use crate::cgroup_mount::CgroupView;
use crate::idmap::remote::Asker;
use crate::plan::mounts::{MountKind, MountOp};
use crate::plan::options::{Attrs, Param};
use crate::sources::{self, Source};
use rustix::fs::{OFlags, fstat, fstatfs};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wharf_sys::mount::attr;
use wharf_sys::mount::{MountChange, mount_setattr};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// A mount that is to become read-only once everything below it is there.
pub type Late = OwnedFd;

/// What mounts are made of besides their plan.
#[derive(Debug)]
pub struct Materials<'a> {
    /// By index of the operation.
    pub binds: &'a mut [Option<Source>],
    pub cgroups: &'a mut CgroupView,
    /// In a user namespace of its own init may not id-map: the runtime does.
    pub id_mapper: Option<&'a Asker>,
    /// Sources keep their ties to the host's mounts.
    pub keep_shared: bool,
}

/// Executes the operations in order.
pub fn execute(root: &Root, ops: &[MountOp], mut with: Materials<'_>) -> Result<Vec<Late>, RootfsError> {
    let mut late = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let bind = with.binds.get_mut(i).and_then(Option::take);
        one(root, op, bind, &mut with, &mut late)
            .map_err(|e| RootfsError::Mount { at: op.at.clone(), source: Box::new(e) })?;
    }
    Ok(late)
}

/// Makes read-only what had to wait.
pub fn finish(late: Vec<Late>) -> Result<(), RootfsError> {
    for fd in late {
        let change = MountChange { set: attr::RDONLY, ..MountChange::default() };
        mount_setattr(&fd, c"", &change).map_err(RootfsError::io("making read-only", "a tmpfs"))?;
    }
    Ok(())
}

fn one(
    root: &Root,
    op: &MountOp,
    bind: Option<Source>,
    with: &mut Materials<'_>,
    late: &mut Vec<Late>,
) -> Result<(), RootfsError> {
    match &op.kind {
        MountKind::Bind { inside, recursive, idmap, .. } => {
            let tree = match (bind, inside) {
                (Some(Source::Tree(tree)), _) => tree,
                (Some(Source::Inside { users }), Some(path)) => {
                    let tree = sources::open_inside(root, op, path, *recursive, with.keep_shared)?;
                    if let (Some(users), Some(map)) = (users, idmap) {
                        match with.id_mapper {
                            Some(asker) => asker.map(&tree.fd),
                            None => sources::id_map(&tree.fd, &users, map.recursive),
                        }
                        .map_err(RootfsError::io("id-mapping the mount of", path))?;
                    }
                    tree
                }
                _ => return Err(RootfsError::refused(&op.target, "its source was not opened")),
            };
            let kind = if tree.is_dir { Target::Directory } else { Target::File };
            let target = open_target(root, &op.target, kind)?;
            if op.target == Path::new("/proc") {
                let fs = fstatfs(&tree.fd).map_err(RootfsError::act("looking at", &op.target))?;
                if fs.f_type as i64 != PROC_SUPER_MAGIC {
                    return Err(RootfsError::refused(&op.target, "only procfs can be mounted there"));
                }
            }
            attach(&tree.fd, &target, &op.target)
        }
        MountKind::Fs { fstype, source, params, copy_up } => {
            // a tmpfs takes the mode of the directory it hides, unless there was none or options give one
            let mode = if fstype == "tmpfs" { existing_mode(root, &op.target)? } else { None };
            let target = open_target(root, &op.target, Target::Directory)?;
            let params = match mode {
                None => Cow::Borrowed(params.as_slice()),
                Some(mode) => {
                    let own = Param::Pair("mode".to_owned(), format!("{mode:04o}"));
                    Cow::Owned(std::iter::once(own).chain(params.iter().cloned()).collect())
                }
            };
            let mount = new_filesystem(fstype, source, &params, op.attrs)?;
            if *copy_up && fstype == "tmpfs" {
                copyup::copy(root, &op.target, &mount)?;
            }
            attach(&mount, &target, &op.target)?;
            propagate(&mount, op)?;
            if op.read_only_late {
                late.push(mount);
            }
            Ok(())
        }
        MountKind::Cgroup => {
            let target = open_target(root, &op.target, Target::Directory)?;
            with.cgroups.mount(&target, op, late)
        }
        MountKind::Change => change(root, op),
    }
}

/// The targets every later check relies on are never reached through a symlink (CVE-2019-19921, CVE-2023-27561,
/// CVE-2023-28642): an image's /proc that is a link would take masks and labels elsewhere.
pub fn open_target(root: &Root, path: &Path, kind: Target) -> Result<OwnedFd, RootfsError> {
    if ["/proc", "/sys", "/dev"].iter().any(|p| path == Path::new(p)) {
        match root.open_without_symlinks(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(rustix::io::Errno::LOOP) => {
                return Err(RootfsError::refused(
                    path,
                    "is a symlink in the image; it must be mounted on ordinary directory",
                ));
            }
            Err(e) => return Err(RootfsError::act("opening", path)(e)),
        }
    }
    let target = root.ensure(path, kind)?;
    not_in_disguise(root, &target, path)?;
    Ok(target)
}

/// The plan refuses targets that are *spelled* below /proc; a symlink of the image gives those files other names. Where a
/// path leads counts: onto procfs or sysfs (or their mount points, while these are bare directories) only under their own
/// names, which the plan has judged.
fn not_in_disguise(root: &Root, target: &OwnedFd, path: &Path) -> Result<(), RootfsError> {
    const SYSFS_MAGIC: i64 = 0x6265_6572;
    let magic = fstatfs(target).map_err(RootfsError::act("looking at", path))?.f_type as i64;
    let stat = fstat(target).map_err(RootfsError::act("looking at", path))?;
    for (own, its_magic) in [("/proc", PROC_SUPER_MAGIC), ("/sys", SYSFS_MAGIC)] {
        if path.starts_with(own) {
            continue;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let there = root.open_without_symlinks(Path::new(own), flags).ok().and_then(|d| fstat(&d).ok());
        let inside = there.is_some_and(|d| {
            (d.st_dev, d.st_ino) == (stat.st_dev, stat.st_ino)
                || (magic == its_magic && d.st_dev == stat.st_dev)
        });
        // any procfs at all: a second one, bound from the host, is as good a way in
        if inside || (magic == PROC_SUPER_MAGIC && own == "/proc") {
            return Err(RootfsError::refused(
                path,
                format!("cannot be mounted because it leads into {own} by a symlink or a mount"),
            ));
        }
    }
    Ok(())
}

/// A new filesystem instance, mounted but attached nowhere. Used for tmpfs masks too.
pub fn new_filesystem(
    fstype: &str,
    source: &str,
    params: &[Param],
    attrs: Attrs,
) -> Result<OwnedFd, RootfsError> {
    let fs = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(RootfsError::act("opening filesystem", fstype))?;
    let explain = |act: &'static str| {
        let fs = &fs;
        move |e: rustix::io::Errno| RootfsError::Act {
            act,
            path: fstype.into(),
            source: match kernel_message(fs) {
                Some(text) => std::io::Error::new(std::io::Error::from(e).kind(), format!("{e}: {text}")),
                None => e.into(),
            },
        }
    };
    fsconfig_set_string(&fs, "source", source).map_err(explain("setting the source of"))?;
    for param in params {
        match param {
            Param::Flag(key) => fsconfig_set_flag(&fs, key.as_str()),
            Param::Pair(key, value) => fsconfig_set_string(&fs, key.as_str(), value.as_str()),
        }
        .map_err(explain("setting options of"))?;
    }
    fsconfig_create(&fs).map_err(explain("creating filesystem"))?;
    let flags = MountAttrFlags::from_bits_retain(attrs.set as u32);
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(explain("mounting filesystem"))
}

/// What the kernel has to say about a refused option: reading a filesystem context gives its log.
fn kernel_message(fs: &OwnedFd) -> Option<String> {
    let mut text = [0u8; 512];
    let n = rustix::io::read(fs, &mut text).ok()?;
    let text = String::from_utf8_lossy(text.get(..n)?);
    Some(text.trim_end().trim_start_matches("e ").to_owned())
}

/// The mode bits of a mount target, None if it is yet to be made.
fn existing_mode(root: &Root, path: &Path) -> Result<Option<u32>, RootfsError> {
    match root.open(path, OFlags::PATH) {
        Ok(fd) => {
            let stat = fstat(&fd).map_err(RootfsError::act("looking at", path))?;
            Ok(Some(stat.st_mode & 0o7777))
        }
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(e) => Err(RootfsError::act("opening", path)(e)),
    }
}

/// Attaches a detached mount onto an open target.
pub fn attach(mount: impl AsFd, target: impl AsFd, path: &Path) -> Result<(), RootfsError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).map_err(RootfsError::act("mounting at", path))
}

/// A detached copy of what is at an open path.
pub fn clone_of(fd: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd, RootfsError> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(fd, "", flags).map_err(RootfsError::act("copying the mount of", path))
}

fn propagate(mount: &OwnedFd, op: &MountOp) -> Result<(), RootfsError> {
    for (propagation, recursive) in &op.propagation {
        let change =
            MountChange { propagation: Some(*propagation), recursive: *recursive, ..MountChange::default() };
        mount_setattr(mount, c"", &change)
            .map_err(RootfsError::io("setting the propagation of", &op.target))?;
    }
    Ok(())
}

/// Changes a mount that is there already (`remount`, or propagation alone).
fn change(root: &Root, op: &MountOp) -> Result<(), RootfsError> {
    let target = root.open(&op.target, OFlags::PATH).map_err(RootfsError::act("opening", &op.target))?;
    propagate(&target, op)?;
    for (attrs, recursive) in [(op.attrs, false), (op.recursive_attrs, true)] {
        if !attrs.is_empty() {
            let change =
                MountChange { set: attrs.set, clear: attrs.clear, recursive, ..MountChange::default() };
            mount_setattr(&target, c"", &change)
                .map_err(RootfsError::io("changing the mount at", &op.target))?;
        }
    }
    Ok(())
}
