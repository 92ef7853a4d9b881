//! Directories below the target, found by the kernel and kept open for the next entry.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::path::EntryPath;
use super::pending::{self, Pending};
use super::{Below, Whiteouts, attributes, lower};

/// Open directories kept at once.
const MAX_OPEN: usize = 64;

/// How many links may lead to one directory, as the kernel has it.
const MAX_LINKS: u32 = 40;

pub(super) struct Directories {
    root: Rc<OwnedFd>,
    pub(super) lower: Vec<OwnedFd>,
    /// What is to be asked of the layers below once they are there.
    pub(super) pending: Option<Pending>,
    whiteouts: Whiteouts,
    open: HashMap<EntryPath, Rc<OwnedFd>>,
}

impl Directories {
    pub(super) fn new(root: BorrowedFd<'_>, below: Below<'_>, whiteouts: Whiteouts) -> Result<Self, Errno> {
        let root = Rc::new(rustix::io::fcntl_dupfd_cloexec(root, 0)?);
        let (lower, pending) = match below {
            Below::Known(lower) => (pending::own(lower)?, None),
            Below::Later => (Vec::new(), Some(Pending::default())),
        };
        Ok(Directories { root, lower, pending, whiteouts, open: HashMap::new() })
    }

    /// Closes every directory kept open, since something on the way to one was replaced.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    /// A directory that is there; links on the way are followed, never out of the root. Only for `…at` calls.
    pub(super) fn open(&mut self, path: &EntryPath) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_root() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(fd) = self.open.get(path) {
            return Ok(Rc::clone(fd));
        }
        let fd = Rc::new(resolve(self.root.as_fd(), path, OFlags::PATH, ResolveFlags::empty())?);
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        self.open.insert(path.clone(), Rc::clone(&fd));
        Ok(fd)
    }

    /// The same, to list it or to set its attributes.
    pub(super) fn open_to_read(&self, path: &EntryPath) -> Result<OwnedFd, Errno> {
        resolve(self.root.as_fd(), path, OFlags::RDONLY, ResolveFlags::empty())
    }

    /// Fails if any part of the path is a link.
    pub(super) fn open_to_read_no_link(&self, path: &EntryPath) -> Result<OwnedFd, Errno> {
        resolve(self.root.as_fd(), path, OFlags::RDONLY, ResolveFlags::NO_SYMLINKS)
    }

    /// A directory that is made if it is not there, with the attributes it has in the layers below.
    pub(super) fn make(&mut self, path: &EntryPath) -> Result<Rc<OwnedFd>, Errno> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            // something hides the directory of the layers below; an entry in it brings it back, alone
            Err(Errno::NOTDIR) if self.whiteouts != Whiteouts::Remove => {}
            other => return other,
        }
        self.make_each(path)?;
        self.open(path)
    }

    /// Goes down from the root, making what is missing. A loop and not a recursion: an archive decides how deep.
    fn make_each(&mut self, path: &EntryPath) -> Result<(), Errno> {
        let mut at = EntryPath::root();
        let mut directory = Rc::clone(&self.root);
        let mut links = MAX_LINKS;
        // the next component is the last of these
        let mut rest: Vec<CString> = path.components().rev().cloned().collect();
        while let Some(name) = rest.pop() {
            let mut next = at.clone();
            next.push(name.clone());
            directory = match rustix::fs::mkdirat(&*directory, &name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    self.take_over_attributes(&directory, &name, &next)?;
                    Rc::new(open_child(&directory, &name)?)
                }
                Err(Errno::EXIST) => {
                    let stat = rustix::fs::statat(&*directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                    match FileType::from_raw_mode(stat.st_mode) {
                        FileType::Directory => Rc::new(open_child(&directory, &name)?),
                        FileType::Symlink => match self.open(&next) {
                            Ok(directory) => directory,
                            Err(Errno::NOENT) => {
                                links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                                let target = rustix::fs::readlinkat(&*directory, &name, Vec::new())?;
                                rest.extend(at.follow(target.to_bytes()).components().rev().cloned());
                                next = EntryPath::root();
                                Rc::clone(&self.root)
                            }
                            Err(e) => return Err(e),
                        },
                        _ if self.whiteouts != Whiteouts::Remove && attributes::is_whiteout(&stat) => {
                            rustix::fs::unlinkat(&*directory, &name, AtFlags::empty())?;
                            rustix::fs::mkdirat(&*directory, &name, Mode::from_raw_mode(0o755))?;
                            let fd = open_child(&directory, &name)?;
                            self.set_opaque(&fd)?;
                            Rc::new(fd)
                        }
                        _ => return Err(Errno::NOTDIR),
                    }
                }
                Err(e) => return Err(e),
            };
            at = next;
        }
        Ok(())
    }

    /// In an overlay the upper directory's attributes are what is seen, so they are copied up with it.
    fn take_over_attributes(
        &mut self,
        parent: &OwnedFd,
        name: &CString,
        path: &EntryPath,
    ) -> Result<(), Errno> {
        if let Some(pending) = &mut self.pending {
            return pending.implied(path);
        }
        match lower::directory(&self.lower, path) {
            Some(below) => attributes::copy(&below, &open_child(parent, name)?),
            None => Ok(()),
        }
    }

    /// Nothing of the layers below shows through this directory.
    pub(super) fn set_opaque(&self, directory: &OwnedFd) -> Result<(), Errno> {
        let name = match self.whiteouts {
            Whiteouts::Overlay { userxattr: true } => c"user.overlay.opaque",
            Whiteouts::Overlay { userxattr: false } => c"trusted.overlay.opaque",
            Whiteouts::Remove => return Ok(()),
        };
        rustix::fs::fsetxattr(directory, name, b"y", XattrFlags::empty())
    }
}

fn open_child(parent: &OwnedFd, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

pub(crate) fn resolve(
    root: BorrowedFd<'_>,
    path: &EntryPath,
    access: OFlags,
    more: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    loop {
        match rustix::fs::openat2(root, path.to_bytes().as_slice(), flags, Mode::empty(), how) {
            // a rename somewhere made the kernel unsure; nothing else says EAGAIN here
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}
