//! A file looked up in overlay layers that are not mounted.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fgetxattr, openat, readlinkat, statat};
use rustix::io::Errno;

use super::{READ, UserError};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// The layers' directories, the uppermost first.
pub(super) struct Stack(Vec<OwnedFd>);

/// What a name is in merged directories.
enum Found {
    Nothing,
    Directory(Vec<OwnedFd>),
    Link(PathBuf),
    /// The directory that has it, in which it is opened.
    File(OwnedFd),
}

impl Stack {
    pub(super) fn open(layers: &[PathBuf]) -> Result<Stack, UserError> {
        let open = |path: &PathBuf| {
            openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| UserError::Read { path: path.clone(), source: e.into() })
        };
        layers.iter().map(open).collect::<Result<_, _>>().map(Stack)
    }

    /// Opens the file at `path` for reading; none if the layers together do not have it.
    pub(super) fn open_file(&self, path: &str) -> Result<Option<OwnedFd>, UserError> {
        let fail = |e: Errno| UserError::Read { path: path.into(), source: e.into() };
        let mut todo: VecDeque<OsString> = parts(Path::new(path));
        // the merged directories from the root down, so that ".." has a way back
        let mut way: Vec<Vec<OwnedFd>> = vec![clone_all(&self.0).map_err(fail)?];
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let Some(here) = way.last() else { return Ok(None) };
            match find(here, &name).map_err(fail)? {
                Found::Nothing => return Ok(None),
                Found::Directory(dirs) => way.push(dirs),
                Found::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(fail(Errno::LOOP));
                    }
                    if target.is_absolute() {
                        way.truncate(1);
                    }
                    for part in parts(&target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                Found::File(dir) if todo.is_empty() => {
                    return openat(&dir, &name, READ | OFlags::NOFOLLOW, Mode::empty())
                        .map(Some)
                        .map_err(fail);
                }
                Found::File(_) => return Ok(None),
            }
        }
        Err(UserError::Unusable { path: path.into(), reason: "it is not a regular file" })
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn clone_all(fds: &[OwnedFd]) -> Result<Vec<OwnedFd>, Errno> {
    fds.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 0)).collect()
}

fn find(dirs: &[OwnedFd], name: &OsString) -> Result<Found, Errno> {
    let mut merged = Vec::new();
    for dir in dirs {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let fd = openat(dir, name, DIRECTORY, Mode::empty())?;
            let opaque = is_opaque(&fd);
            merged.push(fd);
            if opaque {
                break;
            }
            continue;
        }
        // below a directory anything else is hidden by it
        if !merged.is_empty() {
            break;
        }
        return Ok(match kind {
            // overlayfs' whiteout: a character device 0:0
            FileType::CharacterDevice if stat.st_rdev == 0 => Found::Nothing,
            FileType::Symlink => {
                let target = readlinkat(dir, name, Vec::new())?;
                Found::Link(PathBuf::from(OsString::from_vec(target.into_bytes())))
            }
            _ => Found::File(rustix::io::fcntl_dupfd_cloexec(dir.as_fd(), 0)?),
        });
    }
    Ok(if merged.is_empty() { Found::Nothing } else { Found::Directory(merged) })
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|name| fgetxattr(dir, *name, &mut value) == Ok(1) && value == *b"y")
}
