//! What a layer unpacked on its own still needs from the layers below: hard links to files that only they have, and
//! the attributes of directories that the archive implies without listing them.
//!
//! A linked file of a lower layer stands as an empty placeholder until the layers below are known. Whatever the
//! archive does to it in the meantime (more links to it, replacing it) happens to the placeholder.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::directories::resolve;
use super::lower;
use super::path::EntryPath;
use super::{ExtractError, MAX_KEPT, attributes, shown};
use crate::tree::remove_tree;

/// The time that marks a placeholder: one that no archive gives to the nanosecond.
const PLACEHOLDER_TIME: (i64, u32) = (0x5741_5246, 718_281_828);

/// What waits for the lower layers. Without anything in it, resolving it is free of effects.
#[derive(Debug, Default)]
pub struct Pending {
    /// Made because something lies in them; they look like the lower layers' until something else is said.
    directories: BTreeSet<Vec<u8>>,
    /// By inode: the file of a lower layer, and the names that the placeholder was given.
    links: BTreeMap<u64, (EntryPath, Vec<EntryPath>)>,
    root_listed: bool,
    bytes: usize,
}

impl Pending {
    /// Whether nothing of the lower layers is needed but the root's attributes.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.links.is_empty()
    }

    pub(super) fn implied(&mut self, path: &EntryPath) -> Result<(), Errno> {
        let path = path.to_bytes();
        self.keep(path.len())?;
        self.directories.insert(path);
        Ok(())
    }

    pub(super) fn listed(&mut self, path: &EntryPath) {
        self.directories.remove(&path.to_bytes());
    }

    pub(super) fn root_listed(&mut self) {
        self.root_listed = true;
    }

    /// A placeholder was made for a file of a lower layer.
    pub(super) fn placeholder(&mut self, inode: u64, target: &EntryPath) -> Result<(), Errno> {
        self.keep(target.to_bytes().len())?;
        self.links.insert(inode, (target.clone(), vec![target.clone()]));
        Ok(())
    }

    /// A name was given to this inode, which may be a placeholder.
    pub(super) fn linked(&mut self, inode: u64, name: &EntryPath) -> Result<(), Errno> {
        if !self.links.contains_key(&inode) {
            return Ok(());
        }
        self.keep(name.to_bytes().len())?;
        if let Some((_, names)) = self.links.get_mut(&inode) {
            names.push(name.clone());
        }
        Ok(())
    }

    fn keep(&mut self, bytes: usize) -> Result<(), Errno> {
        // the map costs more than the bytes of the path
        self.bytes += bytes + 64;
        if self.bytes > MAX_KEPT { Err(Errno::NOMEM) } else { Ok(()) }
    }

    /// Completes the layer in `target` from the layers below it, the nearest first. A link to what none of them
    /// has is an error of the archive.
    pub fn resolve(self, target: BorrowedFd<'_>, lower: &[BorrowedFd<'_>]) -> Result<(), ExtractError> {
        let lower = own(lower).map_err(|e| failed("open the layers below", &EntryPath::root(), e))?;
        for (inode, (file, names)) in &self.links {
            fill(target, &lower, *inode, file, names)?;
        }
        for path in &self.directories {
            let Some(path) = EntryPath::parse(path) else { continue };
            let Some(below) = lower::directory(&lower, &path) else { continue };
            // it may have been replaced since
            let Ok(here) = resolve(target, &path, OFlags::RDONLY, ResolveFlags::NO_SYMLINKS) else {
                continue;
            };
            attributes::copy(&below, &here).map_err(|e| failed("copy the attributes of", &path, e))?;
        }
        if let (false, Some(nearest)) = (self.root_listed, lower.first()) {
            let root = EntryPath::root();
            let copied = resolve(target, &root, OFlags::RDONLY, ResolveFlags::empty())
                .and_then(|here| attributes::copy(nearest, &here));
            copied.map_err(|e| failed("copy the attributes of", &root, e))?;
        }
        Ok(())
    }
}

pub(super) fn own(lower: &[BorrowedFd<'_>]) -> Result<Vec<OwnedFd>, Errno> {
    lower.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0)).collect()
}

fn failed(act: &'static str, path: &EntryPath, source: Errno) -> ExtractError {
    ExtractError::Io { act, path: shown(&path.to_bytes()), source: source.into() }
}

/// Makes the placeholder, under all names that still are it, what the file below is.
fn fill(
    target: BorrowedFd<'_>,
    lower: &[OwnedFd],
    inode: u64,
    file: &EntryPath,
    names: &[EntryPath],
) -> Result<(), ExtractError> {
    let mut places = Vec::new();
    for path in names {
        let Some((parent, name)) = path.split() else { continue };
        // links on the way lead where they led when the placeholder was linked
        let Ok(parent) = resolve(target, &parent, OFlags::PATH, ResolveFlags::empty()) else { continue };
        let stat = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| stat.st_ino == inode && is_placeholder(&stat)) {
            places.push((parent, name));
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    let found = lower::find(lower, file).ok_or_else(|| ExtractError::Path {
        path: shown(&file.to_bytes()),
        why: "a hard link to it, and no layer has it",
    })?;
    let copy = |e| failed("copy from the layer below", file, e);
    let (first, rest) = places.split_at(1);
    for (parent, name) in first {
        if FileType::from_raw_mode(found.stat.st_mode) == FileType::RegularFile {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let here = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(copy)?;
            return found.copy_data(&here).map_err(copy);
        }
        rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(copy)?;
        found.copy_special(parent.as_fd(), name).map_err(copy)?;
        for (other_parent, other) in rest {
            remove_tree(other_parent.as_fd(), other).map_err(copy)?;
            rustix::fs::linkat(parent, name, other_parent, other, AtFlags::empty()).map_err(copy)?;
        }
    }
    Ok(())
}

/// An empty file to stand for one of a lower layer. Gives its inode.
pub(super) fn make_placeholder(parent: BorrowedFd<'_>, name: &CString) -> Result<Stat, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
    rustix::fs::futimens(&fd, &attributes::times(PLACEHOLDER_TIME))?;
    rustix::fs::fstat(&fd)
}

/// The number of an inode that the archive removed may come back with another file: the mark tells them apart.
fn is_placeholder(stat: &Stat) -> bool {
    stat.st_size == 0 && (stat.st_mtime, stat.st_mtime_nsec as u32) == PLACEHOLDER_TIME
}
