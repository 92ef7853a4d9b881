//! Entries of an archive into a directory.
//!
//! Directories are resolved by the kernel below the target; the last component of a path is never followed. What an
//! entry replaces is removed first, so that nothing is ever written through what an earlier entry planted.

pub(crate) mod attributes;
pub(crate) mod directories;
pub(crate) mod lower;
pub(crate) mod path;
mod pending;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use wharf_kinds::Kind;

use crate::tar::{Entry, EntryKind, TarError, TarReader};
use crate::tree::{names, remove_tree};
use attributes::Owner;
use directories::Directories;
use path::EntryPath;
pub use pending::Pending;

/// What `.wh.` entries become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// The target is the upper directory of an overlay mount: character devices 0/0 and the opaque attribute,
    /// under `user.` where the mount says `userxattr`, else under `trusted.`.
    Overlay { userxattr: bool },
    /// The target is a plain tree: what they name goes away.
    Remove,
}

/// What lies below the target.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Below<'a> {
    /// These layers, the nearest first.
    Known(&'a [BorrowedFd<'a>]),
    /// Layers that are not there yet; what needs them waits in [`Pending`].
    Later,
}

/// Why an entry was not unpacked. Those before it are there: the target is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("{act} {path:?} of the archive: {source}")]
    Io { act: &'static str, path: String, source: io::Error },
    #[error("path {path:?} of the archive leads outside of the target")]
    Outside { path: String },
    #[error("path {path:?} of the archive is not allowed: {why}")]
    Path { path: String, why: &'static str },
    #[error("more than {0} entries in the archive")]
    TooMany(u64),
}

impl ExtractError {
    pub fn kind(&self) -> Kind {
        match self {
            ExtractError::Tar(e) => e.kind(),
            ExtractError::Io { source, .. } => match Kind::of_io(source) {
                Kind::ResourceExhausted => Kind::ResourceExhausted,
                Kind::PermissionDenied => Kind::PermissionDenied,
                // a parent that is a file, a link to nothing: the archive contradicts itself
                Kind::NotFound | Kind::AlreadyExists => Kind::InvalidArgument,
                _ if matches!(source.raw_os_error(), Some(20 | 21 | 22 | 36 | 40)) => Kind::InvalidArgument,
                kind => kind,
            },
            ExtractError::Outside { .. } | ExtractError::Path { .. } | ExtractError::TooMany(_) => {
                Kind::InvalidArgument
            }
        }
    }
}

/// Puts entries below a directory.
pub(crate) struct Extractor {
    directories: Directories,
    whiteouts: Whiteouts,
    /// Paths that this archive made, where a whiteout removes what was there before and only that; `None` where
    /// nothing was there before, or where whiteouts are marks.
    made: Option<BTreeSet<Vec<u8>>>,
    made_bytes: usize,
    /// Times of directories wait until nothing is put into them any more.
    directory_times: Vec<(EntryPath, (i64, u32))>,
    directory_bytes: usize,
}

/// Bytes of paths kept in memory for later, of each kind.
const MAX_KEPT: usize = 64 << 20;

impl Extractor {
    /// Where an entry's parent is not in the target, it takes owner, mode and attributes from the layers below.
    pub(crate) fn new(target: BorrowedFd<'_>, below: Below<'_>, whiteouts: Whiteouts) -> Result<Self, Errno> {
        let directories = Directories::new(target, below, whiteouts)?;
        let was_empty = names(&directories.open_to_read(&EntryPath::root())?)?.is_empty();
        let tracks = whiteouts == Whiteouts::Remove && !was_empty;
        Ok(Extractor {
            directories,
            whiteouts,
            made: tracks.then(BTreeSet::new),
            made_bytes: 0,
            directory_times: Vec::new(),
            directory_bytes: 0,
        })
    }

    /// Puts one entry in place, reading its data.
    pub(crate) fn extract<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut TarReader<R>,
    ) -> Result<(), ExtractError> {
        let path = EntryPath::parse(&entry.path)
            .ok_or_else(|| ExtractError::Outside { path: shown(&entry.path) })?;
        let Some((parent, name)) = path.split() else {
            // the root itself: only its attributes
            return self.set_root_attributes(entry);
        };
        let failed = |act: &'static str| {
            let path = shown(&entry.path);
            move |source: Errno| ExtractError::Io { act, path, source: source.into() }
        };
        if let Some(hidden) = name.to_bytes().strip_prefix(b".wh.") {
            let hidden = hidden.to_vec();
            return self.whiteout(entry, &parent, &hidden);
        }
        let directory = self.directories.make(&parent).map_err(failed("make the parent of"))?;
        let directory = directory.as_fd();
        let owner = Owner { uid: entry.uid, gid: entry.gid };
        match entry.kind {
            EntryKind::Directory => self.make_directory(entry, &path, directory, &name)?,
            EntryKind::File => {
                let fd = self.create_file(directory, &name, entry.mode).map_err(failed("create"))?;
                self.write_data(&fd, entry, archive)?;
                attributes::set_all(&fd, entry, owner).map_err(failed("set the attributes of"))?;
            }
            EntryKind::Symlink => {
                let target = CString::new(entry.link.clone()).map_err(|_| failed("link")(Errno::INVAL))?;
                self.clear(directory, &name).map_err(failed("replace"))?;
                rustix::fs::symlinkat(&target, directory, &name).map_err(failed("link"))?;
                attributes::set_on_name(directory, &name, entry, owner)
                    .map_err(failed("set the attributes of"))?;
            }
            EntryKind::HardLink => self.hard_link(entry, &path, directory, &name)?,
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                self.clear(directory, &name).map_err(failed("replace"))?;
                make_node(entry, directory, &name).map_err(failed("make the device"))?;
                attributes::set_on_name(directory, &name, entry, owner)
                    .map_err(failed("set the attributes of"))?;
            }
        }
        if let Some(made) = &mut self.made {
            let path = path.to_bytes();
            self.made_bytes += path.len();
            made.insert(path);
            if self.made_bytes > MAX_KEPT {
                return Err(ExtractError::TooMany(made.len() as u64));
            }
        }
        Ok(())
    }

    /// Sets what had to wait. Gives what has to wait longer, for the layers below.
    pub(crate) fn finish(mut self) -> Result<Pending, ExtractError> {
        self.set_directory_times()?;
        Ok(self.directories.pending.take().unwrap_or_default())
    }

    fn time_later(&mut self, path: EntryPath, mtime: (i64, u32)) -> Result<(), ExtractError> {
        self.directory_bytes += path.to_bytes().len();
        self.directory_times.push((path, mtime));
        // too many to keep: they are set now, and entries still to come may disturb them
        if self.directory_bytes > MAX_KEPT { self.set_directory_times() } else { Ok(()) }
    }

    fn set_directory_times(&mut self) -> Result<(), ExtractError> {
        self.directory_bytes = 0;
        // the last entry of a directory counts, so later ones are applied later
        for (path, mtime) in std::mem::take(&mut self.directory_times) {
            // it may have been replaced since
            let Ok(directory) = self.directories.open(&path) else { continue };
            attributes::set_time_of_directory(directory.as_fd(), mtime).map_err(|source| {
                ExtractError::Io {
                    act: "set the time of",
                    path: shown(&path.to_bytes()),
                    source: source.into(),
                }
            })?;
        }
        Ok(())
    }

    fn set_root_attributes(&mut self, entry: &Entry) -> Result<(), ExtractError> {
        let failed = |source: Errno| ExtractError::Io {
            act: "set the attributes of",
            path: shown(&entry.path),
            source: source.into(),
        };
        if entry.kind != EntryKind::Directory {
            return Err(ExtractError::Path {
                path: shown(&entry.path),
                why: "the root can only be a directory",
            });
        }
        if let Some(pending) = &mut self.directories.pending {
            pending.root_listed();
        }
        let root = self.directories.open_to_read(&EntryPath::root()).map_err(failed)?;
        attributes::set_all(&root, entry, Owner { uid: entry.uid, gid: entry.gid }).map_err(failed)?;
        self.time_later(EntryPath::root(), entry.mtime)
    }

    fn make_directory(
        &mut self,
        entry: &Entry,
        path: &EntryPath,
        parent: BorrowedFd<'_>,
        name: &CString,
    ) -> Result<(), ExtractError> {
        let failed = |act: &'static str| {
            let path = shown(&entry.path);
            move |source: Errno| ExtractError::Io { act, path, source: source.into() }
        };
        let mut opaque = false;
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat =
                    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look at"))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    // it hid the directory of a lower layer, and this one is to be seen alone
                    opaque = self.is_whiteout(&stat);
                    self.clear(parent, name).map_err(failed("replace"))?;
                    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))
                        .map_err(failed("create"))?;
                }
            }
            Err(e) => return Err(failed("create")(e)),
        }
        if let Some(pending) = &mut self.directories.pending {
            pending.listed(path);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed("open"))?;
        attributes::set_all(&fd, entry, Owner { uid: entry.uid, gid: entry.gid })
            .map_err(failed("set the attributes of"))?;
        if opaque {
            self.directories.set_opaque(&fd).map_err(failed("make opaque"))?;
        }
        self.time_later(path.clone(), entry.mtime)
    }

    fn create_file(&mut self, parent: BorrowedFd<'_>, name: &CString, mode: u32) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // what the process's mask takes away is given back with the attributes; most modes it leaves alone
        let mode = Mode::from_raw_mode(mode & 0o777);
        let create = || rustix::fs::openat(parent, name, flags, mode);
        match create() {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                create()
            }
            other => other,
        }
    }

    fn write_data<R: BufRead>(
        &self,
        fd: &OwnedFd,
        entry: &Entry,
        archive: &mut TarReader<R>,
    ) -> Result<(), ExtractError> {
        let failed = |source: Errno| ExtractError::Io {
            act: "write",
            path: shown(&entry.path),
            source: source.into(),
        };
        let whole = [(0, entry.size)];
        let chunks = entry.sparse.as_ref().map_or(&whole[..], |map| &map.chunks);
        for &(offset, length) in chunks {
            let mut done = 0;
            while done < length {
                // from where it was decompressed to: no copy in between
                let bytes = archive.data(length - done)?;
                let count = bytes.len();
                write_all_at(fd, bytes, offset + done).map_err(failed)?;
                archive.consume_data(count);
                done += count as u64;
            }
        }
        debug_assert_eq!(archive.data_left(), 0);
        if entry.sparse.is_some() {
            rustix::fs::ftruncate(fd, entry.size).map_err(failed)?;
        }
        Ok(())
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        path: &EntryPath,
        parent: BorrowedFd<'_>,
        name: &CString,
    ) -> Result<(), ExtractError> {
        let target = EntryPath::parse(&entry.link)
            .ok_or_else(|| ExtractError::Outside { path: shown(&entry.link) })?;
        let failed = |act: &'static str| {
            let path = shown(&entry.path);
            move |source: Errno| ExtractError::Io { act, path, source: source.into() }
        };
        let Some((target_parent, target_name)) = target.split() else {
            return Err(ExtractError::Path { path: shown(&entry.path), why: "a hard link to the root" });
        };
        let (from, new) = self
            .link_target(&target, &target_parent, &target_name)
            .map_err(failed("find the target of the hard link"))?;
        // linking a file to itself would remove it first
        let same = |a: &rustix::fs::Stat, b: &rustix::fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        if let Ok(old) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            if same(&old, &new) {
                return Ok(());
            }
            self.clear(parent, name).map_err(failed("replace"))?;
        }
        rustix::fs::linkat(&*from, &target_name, parent, name, AtFlags::empty())
            .map_err(failed("hard-link"))?;
        match &mut self.directories.pending {
            Some(pending) => pending.linked(new.st_ino, path).map_err(failed("remember")),
            None => Ok(()),
        }
    }

    /// The directory of a hard link's target, and what the target is. A target that only a lower layer has is
    /// brought up first, as overlay does it.
    fn link_target(
        &mut self,
        target: &EntryPath,
        parent: &EntryPath,
        name: &CString,
    ) -> Result<(Rc<OwnedFd>, rustix::fs::Stat), Errno> {
        let here = self.directories.open(parent).and_then(|from| {
            let stat = rustix::fs::statat(&*from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok((from, stat))
        });
        match here {
            Ok((_, stat)) if self.is_whiteout(&stat) => Err(Errno::NOENT),
            Err(Errno::NOENT) if self.directories.pending.is_some() => {
                let from = self.directories.make(parent)?;
                let stat = pending::make_placeholder(from.as_fd(), name)?;
                if let Some(pending) = &mut self.directories.pending {
                    pending.placeholder(stat.st_ino, target)?;
                }
                Ok((from, stat))
            }
            Err(Errno::NOENT) => {
                let found = lower::find(&self.directories.lower, target).ok_or(Errno::NOENT)?;
                let from = self.directories.make(parent)?;
                found.copy_to(from.as_fd(), name)?;
                let stat = rustix::fs::statat(&*from, name, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok((from, stat))
            }
            other => other,
        }
    }

    fn whiteout(&mut self, entry: &Entry, parent: &EntryPath, hidden: &[u8]) -> Result<(), ExtractError> {
        let failed = |act: &'static str| {
            let path = shown(&entry.path);
            move |source: Errno| ExtractError::Io { act, path, source: source.into() }
        };
        if hidden == b".wh..opq" {
            return match self.whiteouts {
                Whiteouts::Overlay { .. } => {
                    self.directories.make(parent).map_err(failed("make the parent of"))?;
                    let directory = self.directories.open_to_read(parent).map_err(failed("open"))?;
                    self.directories.set_opaque(&directory).map_err(failed("make opaque"))
                }
                Whiteouts::Remove => self.empty(parent).map_err(failed("empty")),
            };
        }
        if hidden.starts_with(b".wh.") {
            // bookkeeping of aufs, which made such archives first
            return Ok(());
        }
        let is_name = !matches!(hidden, b"" | b"." | b"..");
        let name = CString::new(hidden).ok().filter(|_| is_name);
        let name = name.ok_or_else(|| ExtractError::Path {
            path: shown(&entry.path),
            why: "a whiteout that names no file",
        })?;
        match self.whiteouts {
            Whiteouts::Overlay { .. } => {
                let directory = self.directories.make(parent).map_err(failed("make the parent of"))?;
                let mode = Mode::empty();
                match rustix::fs::mknodat(&*directory, &name, FileType::CharacterDevice, mode, 0) {
                    Ok(()) => Ok(()),
                    Err(Errno::EXIST) => {
                        // this layer brings something of that name; only a directory would show what is below
                        let path = parent.join(&name);
                        if let Ok(directory) = self.directories.open_to_read_no_link(&path) {
                            self.directories.set_opaque(&directory).map_err(failed("make opaque"))?;
                        }
                        Ok(())
                    }
                    Err(e) => Err(failed("hide what is below")(e)),
                }
            }
            Whiteouts::Remove => {
                let Ok(directory) = self.directories.open(parent) else { return Ok(()) };
                let own = self.made.as_ref().is_none_or(|made| made.contains(&parent.join(&name).to_bytes()));
                if own {
                    return Ok(());
                }
                self.clear(directory.as_fd(), &name).map_err(failed("remove"))
            }
        }
    }

    /// Removes from a directory what this archive did not put there.
    fn empty(&mut self, path: &EntryPath) -> Result<(), Errno> {
        let Ok(directory) = self.directories.open_to_read(path) else { return Ok(()) };
        for name in names(&directory)? {
            let inner = path.join(&name).to_bytes();
            let below = [inner.as_slice(), b"/"].concat();
            let own = self.made.as_ref().is_none_or(|made| {
                let first_below = made.range(below.clone()..).next();
                made.contains(&inner) || first_below.is_some_and(|path| path.starts_with(&below))
            });
            if !own {
                self.clear(directory.as_fd(), &name)?;
            }
        }
        Ok(())
    }

    /// Removes whatever has this name, so that an entry can take its place.
    fn clear(&mut self, parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
        let Ok(stat) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        // a directory or a link may be part of how an open directory was found
        if matches!(FileType::from_raw_mode(stat.st_mode), FileType::Directory | FileType::Symlink) {
            self.directories.forget();
        }
        remove_tree(parent, name)
    }

    fn is_whiteout(&self, stat: &rustix::fs::Stat) -> bool {
        matches!(self.whiteouts, Whiteouts::Overlay { .. }) && attributes::is_whiteout(stat)
    }
}

fn make_node(entry: &Entry, parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    let (kind, device) = match entry.kind {
        EntryKind::CharDevice => (FileType::CharacterDevice, entry.device),
        EntryKind::BlockDevice => (FileType::BlockDevice, entry.device),
        _ => (FileType::Fifo, (0, 0)),
    };
    let device = rustix::fs::makedev(device.0, device.1);
    rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(entry.mode & 0o777), device)
}

fn write_all_at(fd: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(fd, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A path for an error message, bounded.
pub(crate) fn shown(path: &[u8]) -> String {
    let cut = &path[..path.len().min(256)];
    String::from_utf8_lossy(cut).into_owned()
}
