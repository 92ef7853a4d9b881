//! Owner, mode, times and extended attributes.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::tar::{Entry, EntryKind};

#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Everything, on an open file or directory; the time of a directory is left for later.
pub(super) fn set_all(fd: &OwnedFd, entry: &Entry, owner: Owner) -> Result<(), Errno> {
    // looking is cheaper than setting what is so already, as it is for most files
    let stat = rustix::fs::fstat(fd)?;
    let is_owned = (stat.st_uid, stat.st_gid) == (owner.uid, owner.gid);
    if !is_owned {
        // the owner first: changing it takes away set-id bits and file capabilities
        rustix::fs::fchown(fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    }
    if !is_owned || stat.st_mode & 0o7777 != entry.mode {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))?;
    }
    for (name, value) in &entry.xattrs {
        if is_allowed(name) {
            tolerate(rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()))?;
        }
    }
    if entry.kind != EntryKind::Directory {
        rustix::fs::futimens(fd, &times(entry.mtime))?;
    }
    Ok(())
}

/// Everything, on what cannot be opened: links, devices, FIFOs. The name was just made by us in a directory
/// that we hold.
pub(super) fn set_on_name(
    parent: BorrowedFd<'_>,
    name: &CStr,
    entry: &Entry,
    owner: Owner,
) -> Result<(), Errno> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (stat.st_uid, stat.st_gid) != (owner.uid, owner.gid) {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if entry.kind != EntryKind::Symlink {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    if entry.xattrs.iter().any(|(name, _)| is_allowed(name)) {
        // there is no call that takes a directory and a name
        let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_allowed(name)) {
            let set = rustix::fs::lsetxattr(path.as_slice(), name.as_slice(), value, XattrFlags::empty());
            match set {
                // the kernel keeps user attributes off links and devices
                Err(Errno::PERM) if name.starts_with(b"user.") => {}
                other => tolerate(other)?,
            }
        }
    }
    rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// On a directory held by `O_PATH`.
pub(super) fn set_time_of_directory(directory: BorrowedFd<'_>, mtime: (i64, u32)) -> Result<(), Errno> {
    rustix::fs::utimensat(directory, c".", &times(mtime), AtFlags::empty())
}

/// Overlay's own attributes steer which other directories show through a mount: from an archive they would reach
/// outside of it.
pub(crate) fn is_allowed(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
}

/// A file system without this kind of attribute loses it, as every unpacker has it.
fn tolerate(outcome: Result<(), Errno>) -> Result<(), Errno> {
    match outcome {
        Err(Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

pub(super) fn times(mtime: (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: mtime.0, tv_nsec: i64::from(mtime.1) as _ },
    }
}

/// Overlay's mark for "nothing here".
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Gives `to` the owner, mode, attributes and time of something in a lower layer, without overlay's marks.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    copy_where(from, to, is_allowed)
}

/// The same with whatever attributes there are.
pub(crate) fn copy_exactly(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    copy_where(from, to, |_| true)
}

fn copy_where(from: &OwnedFd, to: &OwnedFd, wanted: fn(&[u8]) -> bool) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in attribute_names(from.as_fd())? {
        if !wanted(&name) {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = match rustix::fs::fgetxattr(from, name.as_slice(), value.as_mut_slice()) {
            Ok(length) => length,
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(e) => return Err(e),
        };
        tolerate(rustix::fs::fsetxattr(to, name.as_slice(), &value[..length], XattrFlags::empty()))?;
    }
    let mtime = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    };
    rustix::fs::futimens(to, &mtime)
}

/// Gives a link, device or FIFO the owner, mode and time of another. The name was just made by us.
pub(super) fn copy_to_name(from: &Stat, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(from.st_uid), Gid::from_raw(from.st_gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(from.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(from.st_mode & 0o7777);
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    }
    let mtime = (from.st_mtime, from.st_mtime_nsec as u32);
    rustix::fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn attribute_names(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    // the kernel bounds the list at 64 KiB
    let mut list = vec![0u8; 64 << 10];
    let length = match rustix::fs::flistxattr(fd, list.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(e) => return Err(e),
    };
    Ok(list[..length].split(|&b| b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}
