//! Masked and read-only paths.

use super::RootfsError;
use super::mount::{attach, clone_of, new_filesystem};
use super::resolve::Root;
use crate::plan::options::{Attrs, Param};
use rustix::fs::{FileType, OFlags, fstat, fstatfs, makedev};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use wharf_sys::mount::{MountChange, attr, mount_setattr};

/// Hides files behind /dev/null and directories behind an empty read-only tmpfs. Paths that do not exist are skipped.
pub fn mask(root: &Root, proc: Option<&Root>, paths: &[PathBuf]) -> Result<(), RootfsError> {
    let mut null = None;
    let mut empty = None;
    for path in paths {
        let Some((target, is_dir)) = lookup(root, proc, path)? else { continue };
        if is_dir {
            mask_directory(&mut empty, &target, path)?;
        } else {
            let mount = clone_of(null_device(root, &mut null)?, path, false)?;
            attach(&mount, &target, path)?;
        }
    }
    Ok(())
}

/// Mounts paths onto themselves, read-only with all below. Paths that do not exist are skipped.
pub fn read_only(root: &Root, proc: Option<&Root>, paths: &[PathBuf]) -> Result<(), RootfsError> {
    for path in paths {
        let Some((target, _)) = lookup(root, proc, path)? else { continue };
        let mount = clone_of(&target, path, true)?;
        let change = MountChange { set: attr::RDONLY, recursive: true, ..MountChange::default() };
        mount_setattr(&mount, c"", &change).map_err(RootfsError::io("making read-only", path))?;
        attach(&mount, &target, path)?;
    }
    Ok(())
}

/// The container's /proc, held open and known to be procfs: what is below it is looked up from here, so that an image
/// whose /proc is renamed meanwhile cannot have its procfs left unmasked. None if /proc is no procfs, and was not to be.
pub fn procfs(root: &Root, required: bool) -> Result<Option<Root>, RootfsError> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let path = Path::new("/proc");
    let opened = root.open_without_symlinks(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW);
    let proc = match opened {
        Ok(fd) => {
            let magic = fstatfs(&fd).map_err(RootfsError::act("looking at", path))?.f_type as i64;
            (magic == PROC_SUPER_MAGIC).then(|| Root::new(fd))
        }
        Err(_) if !required => None,
        Err(e) => return Err(RootfsError::act("opening", path)(e)),
    };
    if proc.is_none() && required {
        return Err(RootfsError::refused(path, "is not the procfs that was mounted there"));
    }
    Ok(proc)
}

fn lookup(root: &Root, proc: Option<&Root>, path: &Path) -> Result<Option<(OwnedFd, bool)>, RootfsError> {
    let opened = match (proc, path.strip_prefix("/proc")) {
        (Some(proc), Ok(below)) => proc.open(&Path::new("/").join(below), OFlags::PATH),
        _ => root.open(path, OFlags::PATH),
    };
    match opened {
        Ok(fd) => {
            let stat = fstat(&fd).map_err(RootfsError::act("looking at", path))?;
            Ok(Some((fd, FileType::from_raw_mode(stat.st_mode) == FileType::Directory)))
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(RootfsError::act("opening", path)(e)),
    }
}

/// The container's /dev/null, only if it is the device: an image that puts a symlink or a file there would have that
/// bound over /proc files, readable and writable (CVE-2025-31133).
fn null_device<'a>(root: &Root, kept: &'a mut Option<OwnedFd>) -> Result<&'a OwnedFd, RootfsError> {
    let path = Path::new("/dev/null");
    if kept.is_none() {
        let fd = root
            .open_without_symlinks(path, OFlags::PATH | OFlags::NOFOLLOW)
            .map_err(RootfsError::act("opening", path))?;
        let stat = fstat(&fd).map_err(RootfsError::act("looking at", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3)
        {
            return Err(RootfsError::refused(
                path,
                "is not the null device, so nothing can be masked with it",
            ));
        }
        *kept = Some(fd);
    }
    kept.as_ref().ok_or_else(|| RootfsError::refused(path, "not opened"))
}

/// One filesystem for all masked directories: each of its own would cost a superblock. The first directory takes the
/// new mount itself and the others take copies of it, since kernels before 6.15 copy no mount that is attached nowhere.
fn mask_directory(empty: &mut Option<OwnedFd>, target: &OwnedFd, path: &Path) -> Result<(), RootfsError> {
    if let Some(first) = empty {
        return attach(&clone_of(first, path, false)?, target, path);
    }
    let params = [Param::Pair("nr_blocks".into(), "1".into()), Param::Pair("nr_inodes".into(), "1".into())];
    let attrs = Attrs { set: attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC, clear: 0 };
    let first = new_filesystem("tmpfs", "tmpfs", &params, attrs)?;
    attach(&first, target, path)?;
    *empty = Some(first);
    Ok(())
}
