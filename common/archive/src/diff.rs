//! What one tree has that another has not, as a layer.
//!
//! Both trees may be filled by somebody hostile and may change meanwhile. Directories are found by the kernel below
//! their root without following anything, and nothing is opened but directories and regular files.

mod compare;

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use wharf_kinds::Kind;

use crate::extract::directories::resolve;
use crate::extract::path::EntryPath;
use crate::tar::{Entry, EntryKind};
use crate::tree::names;
use crate::write::TarWriter;
use compare::Subject;

const WHITEOUT: &[u8] = b".wh.";

/// A longer path cannot be given to the kernel, nor be read from an archive again.
const MAX_PATH: usize = 4095;

/// Bytes of paths kept in memory, of files with several names and of directories written.
const MAX_KEPT: usize = 256 << 20;

/// Why a layer was not made.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    #[error("{act} {path:?}: {source}")]
    Io { act: &'static str, path: String, source: io::Error },
    #[error("write the layer: {0}")]
    Write(io::Error),
    #[error("{0:?} became shorter while it was read")]
    Changed(String),
    #[error("the path {0:?}… is too long for a layer")]
    TooLong(String),
    #[error("more files with several names than can be kept track of")]
    TooMany,
}

impl DiffError {
    pub fn kind(&self) -> Kind {
        match self {
            DiffError::Io { source, .. } | DiffError::Write(source) => Kind::of_io(source),
            DiffError::Changed(_) => Kind::Aborted,
            DiffError::TooLong(_) | DiffError::TooMany => Kind::FailedPrecondition,
        }
    }
}

/// The top layer of an overlay, seen by itself: what has no name in it is as below.
#[derive(Clone, Copy)]
pub struct TopLayer<'a> {
    pub root: BorrowedFd<'a>,
    /// The overlay's marks are `user.` attributes.
    pub userxattr: bool,
}

/// Writes the layer that makes `lower` (nothing if there is none) into `upper`. Gives `out` back, not flushed.
///
/// Where `upper` is an overlay of a layer over exactly `lower`, that layer may be given: the result is the same, and only
/// what is in it is looked at.
///
/// Entries are in a fixed order, times are whole seconds and none is later than `latest`, so that the same trees give the same
/// bytes. Names that begin with `.wh.` cannot be said in a layer and are left out, as are sockets.
pub fn write_diff<W: Write>(
    lower: Option<BorrowedFd<'_>>,
    upper: BorrowedFd<'_>,
    top: Option<TopLayer<'_>>,
    out: W,
    latest: Option<i64>,
) -> Result<W, DiffError> {
    let mut diff = Diff {
        lower,
        upper,
        top: top.filter(|_| lower.is_some()),
        out: TarWriter::new(out),
        latest,
        written: BTreeSet::new(),
        sources: HashMap::new(),
        unchanged: HashMap::new(),
        kept: 0,
        buffer: vec![0; 256 << 10],
    };
    let mut waiting =
        vec![Waiting { path: EntryPath::root(), in_lower: lower.is_some(), in_top: diff.top.is_some() }];
    while let Some(next) = waiting.pop() {
        let below = diff.directory(&next)?;
        // the last is taken first
        waiting.extend(below.into_iter().rev());
    }
    diff.out.finish().map_err(DiffError::Write)
}

/// A directory to look at.
struct Waiting {
    path: EntryPath,
    /// The lower tree has it too.
    in_lower: bool,
    /// The top layer has it, and shows by its names what has changed.
    in_top: bool,
}

struct Diff<'a, W> {
    lower: Option<BorrowedFd<'a>>,
    upper: BorrowedFd<'a>,
    top: Option<TopLayer<'a>>,
    out: TarWriter<W>,
    latest: Option<i64>,
    /// Directories that have their entry.
    written: BTreeSet<Vec<u8>>,
    /// By device and inode: the name under which a file with several was written.
    sources: HashMap<(u64, u64), Vec<u8>>,
    /// Names of such files that have not changed, should another name of the file have.
    unchanged: HashMap<(u64, u64), Vec<EntryPath>>,
    kept: usize,
    buffer: Vec<u8>,
}

impl<W: Write> Diff<'_, W> {
    /// One directory of the upper tree. Gives those in it.
    fn directory(&mut self, next: &Waiting) -> Result<Vec<Waiting>, DiffError> {
        let path = &next.path;
        let upper = open_directory(self.upper, path)?;
        let lower = match self.lower.filter(|_| next.in_lower) {
            Some(root) => Some(open_directory(root, path)?),
            None => None,
        };
        // without a lower directory all of it is new, and all of it is looked at
        let top = match self.top.filter(|_| next.in_top && lower.is_some()) {
            Some(top) => top.directory(path)?,
            None => None,
        };
        if path.is_root()
            && let Some(lower) = &lower
        {
            let (a, b) = (Subject::of_root(lower), Subject::of_root(&upper));
            if compare::differ(&a.map_err(failed("look at", path))?, &b.map_err(failed("look at", path))?)
                .map_err(failed("compare", path))?
            {
                self.write_directory(path, &upper)?;
            }
        }
        let list = |directory: &OwnedFd| -> Result<BTreeSet<CString>, DiffError> {
            Ok(names(directory).map_err(failed("list", path))?.into_iter().collect())
        };
        let (above, below) = match &top {
            Some(top) => (list(top)?, BTreeSet::new()),
            None => (list(&upper)?, lower.as_ref().map(list).transpose()?.unwrap_or_default()),
        };
        let mut directories = Vec::new();
        for name in above.union(&below) {
            let path = path.join(name);
            if name.to_bytes().starts_with(WHITEOUT) {
                continue;
            }
            let here = stat(&upper, name).map_err(failed("look at", &path))?;
            let there = match &lower {
                Some(lower) => stat(lower, name).map_err(failed("look at", &path))?.map(|s| (lower, s)),
                None => None,
            };
            let Some(here) = here else {
                if there.is_some() {
                    self.whiteout(&path)?;
                }
                continue;
            };
            let kind = FileType::from_raw_mode(here.st_mode);
            if kind == FileType::Socket {
                // it hides what was there all the same
                if there.is_some_and(|(_, s)| FileType::from_raw_mode(s.st_mode) != FileType::Socket) {
                    self.whiteout(&path)?;
                }
                continue;
            }
            let subject = Subject { parent: upper.as_fd(), name, stat: here };
            let is_changed = match &there {
                Some((lower, stat)) => {
                    let old = Subject { parent: lower.as_fd(), name, stat: *stat };
                    compare::differ(&old, &subject).map_err(failed("compare", &path))?
                }
                None => true,
            };
            if kind == FileType::Directory {
                if is_changed {
                    let directory = open_directory(self.upper, &path)?;
                    self.write_directory(&path, &directory)?;
                }
                let was_directory =
                    there.is_some_and(|(_, s)| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
                directories.push(Waiting { path, in_lower: was_directory, in_top: top.is_some() });
            } else {
                self.thing(&path, &subject, is_changed)?;
            }
        }
        Ok(directories)
    }

    /// Anything but a directory.
    fn thing(&mut self, path: &EntryPath, subject: &Subject<'_>, is_changed: bool) -> Result<(), DiffError> {
        let inode = (subject.stat.st_dev, subject.stat.st_ino);
        if subject.stat.st_nlink < 2 {
            return if is_changed { self.write_thing(path, subject) } else { Ok(()) };
        }
        if let Some(source) = self.sources.get(&inode).cloned() {
            return self.write_link(path, &subject.stat, &source);
        }
        self.keep(path)?;
        if !is_changed {
            self.unchanged.entry(inode).or_default().push(path.clone());
            return Ok(());
        }
        self.sources.insert(inode, path.to_bytes());
        self.write_thing(path, subject)?;
        for other in self.unchanged.remove(&inode).unwrap_or_default() {
            self.write_link(&other, &subject.stat, &path.to_bytes())?;
        }
        Ok(())
    }

    fn write_thing(&mut self, path: &EntryPath, subject: &Subject<'_>) -> Result<(), DiffError> {
        self.write_parents(path)?;
        let mut entry = self.entry_of(path, &subject.stat)?;
        match entry.kind {
            EntryKind::File => return self.write_file(path, subject, entry),
            EntryKind::Symlink => {
                let target = rustix::fs::readlinkat(subject.parent, subject.name, Vec::new());
                entry.link = target.map_err(failed("read the link", path))?.into_bytes();
            }
            _ => {}
        }
        entry.xattrs = subject.attributes().map_err(failed("read the attributes of", path))?;
        self.out.entry(&entry).map_err(DiffError::Write)
    }

    fn write_file(
        &mut self,
        path: &EntryPath,
        subject: &Subject<'_>,
        mut entry: Entry,
    ) -> Result<(), DiffError> {
        let file = subject.open().map_err(failed("open", path))?;
        // what was opened counts, not what had the name before
        let stat = rustix::fs::fstat(&file).map_err(failed("look at", path))?;
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        entry.xattrs = compare::attributes_of(&file).map_err(failed("read the attributes of", path))?;
        self.out.entry(&entry).map_err(DiffError::Write)?;
        let mut left = entry.size;
        while left > 0 {
            let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match rustix::io::read(&file, &mut self.buffer[..wanted]) {
                Ok(0) => return Err(DiffError::Changed(shown(path))),
                Ok(count) => {
                    self.out.data(&self.buffer[..count]).map_err(DiffError::Write)?;
                    left -= count as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(failed("read", path)(e)),
            }
        }
        self.out.pad(entry.size).map_err(DiffError::Write)
    }

    fn write_link(&mut self, path: &EntryPath, stat: &Stat, source: &[u8]) -> Result<(), DiffError> {
        self.write_parents(path)?;
        let mut entry = self.entry_of(path, stat)?;
        entry.kind = EntryKind::HardLink;
        entry.link = source.to_vec();
        entry.size = 0;
        self.out.entry(&entry).map_err(DiffError::Write)
    }

    fn whiteout(&mut self, path: &EntryPath) -> Result<(), DiffError> {
        let Some((parent, name)) = path.split() else { return Ok(()) };
        self.write_parents(path)?;
        let name = CString::new([WHITEOUT, name.to_bytes()].concat()).unwrap_or_default();
        let entry = Entry {
            kind: EntryKind::File,
            path: checked(&parent.join(&name))?,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            // of no meaning, and the same whenever it was removed
            mtime: (0, 0),
            device: (0, 0),
            size: 0,
            xattrs: Vec::new(),
            sparse: None,
        };
        self.out.entry(&entry).map_err(DiffError::Write)
    }

    /// The directories above an entry come before it, as they are.
    fn write_parents(&mut self, path: &EntryPath) -> Result<(), DiffError> {
        let mut missing = Vec::new();
        let mut at = path.clone();
        while let Some((parent, _)) = at.split() {
            if parent.is_root() || self.written.contains(&parent.to_bytes()) {
                break;
            }
            missing.push(parent.clone());
            at = parent;
        }
        for parent in missing.into_iter().rev() {
            let directory = open_directory(self.upper, &parent)?;
            self.write_directory(&parent, &directory)?;
        }
        Ok(())
    }

    fn write_directory(&mut self, path: &EntryPath, directory: &OwnedFd) -> Result<(), DiffError> {
        if !path.is_root() {
            self.write_parents(path)?;
        }
        if !self.written.insert(path.to_bytes()) {
            return Ok(());
        }
        self.keep(path)?;
        let stat = rustix::fs::fstat(directory).map_err(failed("look at", path))?;
        let mut entry = self.entry_of(path, &stat)?;
        entry.path.extend_from_slice(b"/");
        entry.xattrs = compare::attributes_of(directory).map_err(failed("read the attributes of", path))?;
        self.out.entry(&entry).map_err(DiffError::Write)
    }

    fn entry_of(&self, path: &EntryPath, stat: &Stat) -> Result<Entry, DiffError> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            _ => EntryKind::File,
        };
        let seconds = stat.st_mtime;
        Ok(Entry {
            kind,
            path: checked(path)?,
            link: Vec::new(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (self.latest.map_or(seconds, |latest| latest.min(seconds)), 0),
            device: match kind {
                EntryKind::CharDevice | EntryKind::BlockDevice => {
                    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
                }
                _ => (0, 0),
            },
            size: 0,
            xattrs: Vec::new(),
            sparse: None,
        })
    }

    fn keep(&mut self, path: &EntryPath) -> Result<(), DiffError> {
        self.kept += path.to_bytes().len() + 64;
        if self.kept > MAX_KEPT { Err(DiffError::TooMany) } else { Ok(()) }
    }
}

impl TopLayer<'_> {
    /// The layer's own directory of that path; `None` where its names do not tell what has changed: it hides what is
    /// below it, or shows another directory's contents.
    fn directory(&self, path: &EntryPath) -> Result<Option<OwnedFd>, DiffError> {
        let directory = match resolve(self.root, path, OFlags::RDONLY, ResolveFlags::NO_SYMLINKS) {
            Ok(directory) => directory,
            // changed meanwhile
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(failed("open", path)(e)),
        };
        let class = if self.userxattr { "user" } else { "trusted" };
        for mark in ["opaque", "redirect"] {
            let mut value = [0; 1];
            match rustix::fs::fgetxattr(&directory, format!("{class}.overlay.{mark}"), &mut value) {
                Err(Errno::NODATA) => {}
                // "x" says only that some of the names are whiteouts of another form
                Ok(1) if mark == "opaque" && value == *b"x" => {}
                Ok(_) | Err(Errno::RANGE) => return Ok(None),
                Err(e) => return Err(failed("read the attributes of", path)(e)),
            }
        }
        Ok(Some(directory))
    }
}

fn checked(path: &EntryPath) -> Result<Vec<u8>, DiffError> {
    let bytes = path.to_bytes();
    // a directory gets a slash as well
    if bytes.len() >= MAX_PATH { Err(DiffError::TooLong(shown(path))) } else { Ok(bytes) }
}

fn open_directory(root: BorrowedFd<'_>, path: &EntryPath) -> Result<OwnedFd, DiffError> {
    checked(path)?;
    resolve(root, path, OFlags::RDONLY, ResolveFlags::NO_SYMLINKS).map_err(failed("open", path))
}

fn stat(directory: &OwnedFd, name: &CString) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn failed(act: &'static str, path: &EntryPath) -> impl FnOnce(Errno) -> DiffError {
    let path = shown(path);
    move |source| DiffError::Io { act, path, source: source.into() }
}

fn shown(path: &EntryPath) -> String {
    crate::extract::shown(&path.to_bytes())
}

/// Opens a regular file without following or waiting for anything.
fn open_file(parent: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile { Ok(fd) } else { Err(Errno::INVAL) }
}
