//! A whole directory tree copied, following nothing.
//!
//! Directories are found again by their path below the root instead of being held open, so that depth costs no
//! descriptors.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::extract::attributes;
use crate::extract::directories::resolve;
use crate::extract::lower::Found;
use crate::extract::path::EntryPath;
use crate::tree::names;

/// Copies what is in `from`, with all attributes and hard links, into `to`, an empty directory, and gives `to` the
/// attributes of `from`. Sockets are left out.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let open = |root: BorrowedFd<'_>, path: &EntryPath| -> Result<OwnedFd, Errno> {
        resolve(root, path, OFlags::RDONLY, ResolveFlags::NO_SYMLINKS)
    };
    // first name of each file that has several
    let mut linked: HashMap<(u64, u64), EntryPath> = HashMap::new();
    let mut waiting = vec![EntryPath::root()];
    let mut directories = Vec::new();
    while let Some(path) = waiting.pop() {
        let (source, target) = (open(from, &path)?, open(to, &path)?);
        for name in names(&source)? {
            let stat = rustix::fs::statat(&source, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                rustix::fs::mkdirat(&target, &name, Mode::from_raw_mode(0o700))?;
                waiting.push(path.join(&name));
                continue;
            }
            if stat.st_nlink > 1 {
                if let Some(first) = linked.get(&(stat.st_dev, stat.st_ino)) {
                    link(to, first, target.as_fd(), &name)?;
                    continue;
                }
                linked.insert((stat.st_dev, stat.st_ino), path.join(&name));
            }
            if kind == FileType::Socket {
                continue;
            }
            let found = Found::new(rustix::io::fcntl_dupfd_cloexec(&source, 0)?, name.clone(), stat);
            found.copy_to(target.as_fd(), &name)?;
        }
        directories.push(path);
    }
    // from the deepest up, so that no time of a directory is disturbed
    for path in directories.iter().rev() {
        attributes::copy_exactly(&open(from, path)?, &open(to, path)?)?;
    }
    Ok(())
}

fn link(root: BorrowedFd<'_>, first: &EntryPath, to: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    let (parent, first) = first.split().ok_or(Errno::INVAL)?;
    let parent = resolve(root, &parent, OFlags::PATH, ResolveFlags::NO_SYMLINKS)?;
    match rustix::fs::linkat(&parent, &first, to, name, AtFlags::empty()) {
        // a socket has no first name
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn root_a_copy_is_like_its_original() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(a.join("d/e")).unwrap();
        fs::create_dir(&b).unwrap();
        fs::write(a.join("d/file"), "data").unwrap();
        fs::hard_link(a.join("d/file"), a.join("again")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", a.join("link")).unwrap();
        std::os::unix::fs::chown(a.join("d/file"), Some(5), Some(6)).unwrap();
        fs::set_permissions(a.join("d/file"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::set_permissions(&a, fs::Permissions::from_mode(0o1777)).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(a.join("d/file"), "user.k", b"v", flags).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(a.join("socket")).unwrap();
        copy_tree(File::open(&a).unwrap().as_fd(), File::open(&b).unwrap().as_fd()).unwrap();
        let meta = |name: &str| b.join(name).symlink_metadata().unwrap();
        assert_eq!((meta("d/file").mode() & 0o7777, meta("d/file").uid()), (0o4750, 5));
        assert_eq!((meta("again").ino(), meta("again").nlink()), (meta("d/file").ino(), 2));
        assert_eq!(fs::read_link(b.join("link")).unwrap().to_str(), Some("/etc/passwd"));
        assert!(b.join("d/e").is_dir() && !b.join("socket").exists());
        assert_eq!(fs::metadata(&b).unwrap().mode() & 0o7777, 0o1777);
        let mut value = [0; 4];
        assert_eq!(rustix::fs::getxattr(b.join("d/file"), "user.k", &mut value), Ok(1));
        for name in ["d", "d/e", "d/file"] {
            let before = a.join(name).metadata().unwrap();
            assert_eq!((meta(name).mtime(), meta(name).mtime_nsec()), (before.mtime(), before.mtime_nsec()));
        }
    }
}
