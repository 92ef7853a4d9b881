//! Making the container's tree the root of its mount namespace.

use super::RootfsError;
use super::mount::attach;
use rustix::fs::{CWD, Mode, OFlags, fstat};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chroot, fchdir, pivot_root};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wharf_sys::mount::{MountChange, Propagation, attr, mount_setattr};

/// Cuts this mount namespace off from the host's and puts the container's tree at its own `path`, where hooks of others
/// look for it (those of GPUs mount below `<bundle>/rootfs` in this namespace). Where the path leads elsewhere by now, or
/// the root of a user namespace may not follow it, on top of the root.
///
/// Private, not slave: nothing of the old tree is used again, and taking it down must not reach the host.
pub fn stack(rootfs: &OwnedFd, path: &Path) -> Result<(), RootfsError> {
    let change =
        MountChange { propagation: Some(Propagation::Private), recursive: true, ..MountChange::default() };
    mount_setattr(CWD, c"/", &change).map_err(RootfsError::io("making private", "/"))?;
    let own = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    if let Ok(own) = own
        && same(&own, rootfs, path)?
    {
        return attach(rootfs, &own, path);
    }
    on_top(rootfs)
}

fn same(a: &OwnedFd, b: &OwnedFd, path: &Path) -> Result<bool, RootfsError> {
    let stat = |fd| fstat(fd).map_err(RootfsError::act("looking at", path));
    let (a, b) = (stat(a)?, stat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

fn on_top(rootfs: impl AsFd) -> Result<(), RootfsError> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(RootfsError::act("opening", "/"))?;
    attach(rootfs, &root, Path::new("/"))
}

/// Swaps the roots and drops the host's. The old root lies on top of the new one after pivot_root(".", "."), so "."
/// names it in umount2 (pivot_root(2)).
pub fn pivot(rootfs: impl AsFd) -> Result<(), RootfsError> {
    fchdir(rootfs).map_err(RootfsError::act("entering", "the root filesystem"))?;
    pivot_root(".", ".").map_err(RootfsError::act("pivoting to", "the root filesystem"))?;
    unmount(".", UnmountFlags::DETACH).map_err(RootfsError::act("unmounting", "the host's root"))?;
    rustix::process::chdir("/").map_err(RootfsError::act("entering", "/"))
}

/// Where the host's root is a ramfs, pivot_root is impossible. The host's tree stays mounted below and is only out of
/// reach by chroot, so its procfs and sysfs are taken away first: they would show the host unmasked.
pub fn move_root(rootfs: impl AsFd) -> Result<(), RootfsError> {
    for path in ["/proc", "/sys"] {
        match unmount(path, UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT | rustix::io::Errno::PERM) => {}
            Err(e) => return Err(RootfsError::act("unmounting the host's", path)(e)),
        }
    }
    // on top of the namespace's root there is nothing above it to get to, whoever leaves the chroot
    on_top(&rootfs)?;
    fchdir(rootfs).map_err(RootfsError::act("entering", "the root filesystem"))?;
    chroot(".").map_err(RootfsError::act("changing root to", "the root filesystem"))?;
    rustix::process::chdir("/").map_err(RootfsError::act("entering", "/"))
}

/// The last changes of the root mount itself: propagation as configured, and read-only.
pub fn seal(
    root: impl AsFd,
    propagation: Option<(Propagation, bool)>,
    readonly: bool,
) -> Result<(), RootfsError> {
    if let Some((propagation, recursive)) = propagation {
        let change = MountChange { propagation: Some(propagation), recursive, ..MountChange::default() };
        mount_setattr(root.as_fd(), c"", &change)
            .map_err(RootfsError::io("setting the propagation of", "/"))?;
    }
    if readonly {
        let change = MountChange { set: attr::RDONLY, ..MountChange::default() };
        mount_setattr(root.as_fd(), c"", &change).map_err(RootfsError::io("making read-only", "/"))?;
    }
    Ok(())
}
