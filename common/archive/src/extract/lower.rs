//! Looking things up in the layers below, as overlay would: the nearest one that has it, unless something nearer
//! hides it. Links on the way are not followed.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes;
use super::path::EntryPath;

/// Something other than a directory in a lower layer.
pub(crate) struct Found {
    parent: OwnedFd,
    name: CString,
    pub(super) stat: Stat,
}

/// `None` if no layer has it, or it is a directory.
pub(super) fn find(lower: &[OwnedFd], path: &EntryPath) -> Option<Found> {
    let (parent_path, name) = path.split()?;
    for layer in lower {
        let (parent, opaque) = match descend(layer, &parent_path) {
            Descent::Here { directory, opaque } => (directory, opaque),
            Descent::Absent { opaque: false } => continue,
            Descent::Absent { opaque: true } | Descent::Hidden => return None,
        };
        match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let is_thing = FileType::from_raw_mode(stat.st_mode) != FileType::Directory
                    && !attributes::is_whiteout(&stat);
                return is_thing.then_some(Found { parent, name, stat });
            }
            Err(Errno::NOENT) if !opaque => {}
            Err(_) => return None,
        }
    }
    None
}

/// The directory that overlay would take the attributes from.
pub(super) fn directory(lower: &[OwnedFd], path: &EntryPath) -> Option<OwnedFd> {
    for layer in lower {
        match descend(layer, path) {
            Descent::Here { directory, .. } => return Some(directory),
            Descent::Absent { opaque: false } => {}
            Descent::Absent { opaque: true } | Descent::Hidden => return None,
        }
    }
    None
}

enum Descent {
    Here {
        directory: OwnedFd,
        opaque: bool,
    },
    Absent {
        opaque: bool,
    },
    /// A whiteout, a file or a link on the way.
    Hidden,
}

fn descend(layer: &OwnedFd, path: &EntryPath) -> Descent {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(mut directory) = rustix::fs::openat(layer, c".", flags, Mode::empty()) else {
        return Descent::Hidden;
    };
    let mut opaque = false;
    for name in path.components() {
        directory = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Descent::Absent { opaque },
            Err(_) => return Descent::Hidden,
        };
        opaque |= is_opaque(directory.as_fd());
    }
    Descent::Here { directory, opaque }
}

/// Nothing of the layers below shows through this directory.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    [c"trusted.overlay.opaque", c"user.overlay.opaque"].into_iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::fgetxattr(directory, name, &mut value) == Ok(1) && value == *b"y"
    })
}

impl Found {
    /// What `stat` was of, under this name.
    pub(crate) fn new(parent: OwnedFd, name: CString, stat: Stat) -> Self {
        Found { parent, name, stat }
    }

    /// A copy under a name that is free.
    pub(crate) fn copy_to(&self, parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
        if FileType::from_raw_mode(self.stat.st_mode) != FileType::RegularFile {
            return self.copy_special(parent, name);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
        self.copy_data(&fd)
    }

    /// Data and attributes of a regular file into an empty one.
    pub(super) fn copy_data(&self, to: &OwnedFd) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = rustix::fs::openat(&self.parent, &self.name, flags, Mode::empty())?;
        let mut left = u64::try_from(self.stat.st_size).map_err(|_| Errno::INVAL)?;
        while left > 0 {
            let most = usize::try_from(left.min(1 << 30)).map_err(|_| Errno::INVAL)?;
            match rustix::fs::copy_file_range(&from, None, to, None, most) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => left -= count as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                    let count = rustix::fs::sendfile(to, &from, None, most)?;
                    if count == 0 {
                        return Err(Errno::IO);
                    }
                    left -= count as u64;
                }
                Err(e) => return Err(e),
            }
        }
        attributes::copy(&from, to)
    }

    /// A link, device or FIFO under a name that is free.
    pub(super) fn copy_special(&self, parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
        match FileType::from_raw_mode(self.stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&self.parent, &self.name, Vec::new())?;
                rustix::fs::symlinkat(&target, parent, name)?;
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
                rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), self.stat.st_rdev)?;
            }
            _ => return Err(Errno::INVAL),
        }
        attributes::copy_to_name(&self.stat, parent, name)
    }
}
