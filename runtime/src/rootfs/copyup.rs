//! `tmpcopyup`: what the image has at the target is copied into the new tmpfs before it is mounted there.

use super::RootfsError;
use super::resolve::Root;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fstat, mkdirat, openat, readlinkat,
    symlinkat,
};
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const MAX_DEPTH: usize = 128;

/// Copies the directory `path` of the root into `mount`. Directories, files and symlinks are copied with owner and mode.
pub fn copy(root: &Root, path: &Path, mount: &OwnedFd) -> Result<(), RootfsError> {
    let from =
        root.open(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(RootfsError::act("opening", path))?;
    tree(&from, mount, path, 0)
}

fn tree(from: &OwnedFd, to: &OwnedFd, path: &Path, depth: usize) -> Result<(), RootfsError> {
    if depth > MAX_DEPTH {
        return Err(RootfsError::refused(path, "directories too deep to copy"));
    }
    let stat = fstat(from).map_err(RootfsError::act("looking at", path))?;
    let out = openat(to, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(RootfsError::act("opening", path))?;
    own(&out, c"", &stat, path)?;
    fchmod(&out, Mode::from_raw_mode(stat.st_mode & 0o7777))
        .map_err(RootfsError::act("setting the mode of", path))?;
    let dir = Dir::read_from(from).map_err(RootfsError::act("reading", path))?;
    for entry in dir {
        let entry = entry.map_err(RootfsError::act("reading", path))?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            entry_copy(from, &out, name, path, depth)?;
        }
    }
    Ok(())
}

fn own(dir: impl AsFd, name: &CStr, stat: &rustix::fs::Stat, path: &Path) -> Result<(), RootfsError> {
    let flags =
        AtFlags::SYMLINK_NOFOLLOW | if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(dir, name, Some(uid), Some(gid), flags).map_err(RootfsError::act("setting the owner of", path))
}

fn entry_copy(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &CStr,
    path: &Path,
    depth: usize,
) -> Result<(), RootfsError> {
    let path = path.join(name.to_string_lossy().as_ref());
    let open = |flags| openat(from, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let looked = open(OFlags::PATH).map_err(RootfsError::act("opening", &path))?;
    let stat = fstat(&looked).map_err(RootfsError::act("looking at", &path))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700)).map_err(RootfsError::act("creating", &path))?;
            let source =
                open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(RootfsError::act("opening", &path))?;
            let target = openat(to, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .map_err(RootfsError::act("opening", &path))?;
            tree(&source, &target, &path, depth + 1)
        }
        FileType::Symlink => {
            let link = readlinkat(from, name, Vec::new()).map_err(RootfsError::act("reading link", &path))?;
            symlinkat(&link, to, name).map_err(RootfsError::act("creating", &path))?;
            own(to, name, &stat, &path)
        }
        FileType::RegularFile => {
            let source =
                open(OFlags::RDONLY | OFlags::NONBLOCK).map_err(RootfsError::act("opening", &path))?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let target = openat(to, name, flags, Mode::from_raw_mode(0o600))
                .map_err(RootfsError::act("creating", &path))?;
            let mut target = std::fs::File::from(target);
            // no more than was there when looked at: a growing file must not fill the tmpfs
            std::io::copy(&mut std::fs::File::from(source).take(stat.st_size as u64), &mut target)
                .map_err(RootfsError::io("copying", &path))?;
            own(&target, c"", &stat, &path)?;
            fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))
                .map_err(RootfsError::act("setting the mode of", &path))
        }
        // devices, sockets and fifos of an image are not data to be copied
        _ => Ok(()),
    }
}
