//! Whole directory trees that somebody else filled: removing and measuring them.
//!
//! A container can nest directories deeper than a path or a stack can say, so neither recursion nor full paths
//! are used, and the number of open descriptors is bounded.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// So many levels are held open at once; what lies deeper is first moved up.
const MAX_OPEN: usize = 64;

/// What a tree takes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeUsage {
    /// Bytes allocated, hard links counted once.
    pub bytes: u64,
    pub inodes: u64,
}

/// Removes `name` in `parent`, a directory with all that is in it or anything else, following nothing.
/// What is not there is no error.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    let top = match open_directory(parent, name) {
        Ok(top) => top,
        // somebody else removes the same tree
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut moved = 0u64;
    // each pass empties the tree down to MAX_OPEN levels and brings the deeper ones up for the next
    while !empty_down(top.as_fd(), &mut moved)? {}
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Whether everything below is gone.
fn empty_down(top: BorrowedFd<'_>, moved: &mut u64) -> Result<bool, Errno> {
    let mut stack: Vec<(OwnedFd, Vec<CString>, Option<CString>)> = Vec::new();
    let mut all_gone = true;
    let first = open_directory(top, c".")?;
    let entries = names(&first)?;
    stack.push((first, entries, None));
    while let Some((directory, entries, _)) = stack.last_mut() {
        let Some(name) = entries.pop() else {
            let finished = stack.pop().and_then(|(_, _, name)| name);
            if let (Some(name), Some((parent, _, _))) = (finished, stack.last()) {
                match rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(e),
                }
            }
            continue;
        };
        match rustix::fs::unlinkat(&*directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(e),
        }
        if stack.len() >= MAX_OPEN {
            all_gone = false;
            let (directory, _, _) = &stack[stack.len() - 1];
            loop {
                let higher = CString::new(format!(".deep-{moved}")).map_err(|_| Errno::INVAL)?;
                *moved += 1;
                match rustix::fs::renameat(directory, &name, top, &higher) {
                    Ok(()) | Err(Errno::NOENT) => break,
                    // left by a removal that was interrupted
                    Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                    Err(e) => return Err(e),
                }
            }
            continue;
        }
        let (directory, _, _) = &stack[stack.len() - 1];
        let child = match open_directory(directory.as_fd(), &name) {
            Ok(child) => child,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e),
        };
        let entries = names(&child)?;
        stack.push((child, entries, Some(name)));
    }
    Ok(all_gone)
}

/// Measures what lies below `root`, the root itself included.
pub fn tree_usage(root: BorrowedFd<'_>) -> Result<TreeUsage, Errno> {
    let mut usage = TreeUsage::default();
    let mut seen = HashSet::new();
    let mut count = |fd: BorrowedFd<'_>, name: &CStr| -> Result<FileType, Errno> {
        let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_new =
            stat.st_nlink < 2 || kind == FileType::Directory || seen.insert((stat.st_dev, stat.st_ino));
        if is_new {
            usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            usage.inodes += 1;
        }
        Ok(kind)
    };
    count(root, c".")?;
    let first = open_directory(root, c".")?;
    let entries = names(&first)?;
    let mut stack = vec![(first, entries)];
    while let Some((directory, entries)) = stack.last_mut() {
        let Some(name) = entries.pop() else {
            stack.pop();
            continue;
        };
        match count(directory.as_fd(), &name) {
            // deeper than this is not measured: an answer that is a little low, rather than none
            Ok(FileType::Directory) if stack.len() < 4 * MAX_OPEN => {
                let (directory, _) = &stack[stack.len() - 1];
                match open_directory(directory.as_fd(), &name) {
                    Ok(child) => {
                        let entries = names(&child)?;
                        stack.push((child, entries));
                    }
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(usage)
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

pub(crate) fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut out = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            out.push(name.to_owned());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let base: OwnedFd = File::open(dir.path()).unwrap().into();
        let mut at = base.try_clone().unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"a-directory-with-a-name", Mode::from_raw_mode(0o755)).unwrap();
            let flags = OFlags::RDONLY | OFlags::CREATE;
            rustix::fs::openat(&at, c"file", flags, Mode::from_raw_mode(0o600)).unwrap();
            at = open_directory(at.as_fd(), c"a-directory-with-a-name").unwrap();
        }
        assert!(tree_usage(base.as_fd()).unwrap().inodes > 100);
        remove_tree(base.as_fd(), c"a-directory-with-a-name").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        remove_tree(base.as_fd(), c"absent").unwrap();
    }

    #[test]
    fn links_are_removed_and_their_targets_are_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("outside/kept")).unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        std::os::unix::fs::symlink("../outside", dir.path().join("tree/link")).unwrap();
        let base: OwnedFd = File::open(dir.path()).unwrap().into();
        remove_tree(base.as_fd(), c"tree").unwrap();
        assert!(dir.path().join("outside/kept").exists() && !dir.path().join("tree").exists());
    }

    #[test]
    fn hard_links_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), vec![1; 64 << 10]).unwrap();
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let base: OwnedFd = File::open(dir.path()).unwrap().into();
        assert_eq!(tree_usage(base.as_fd()).unwrap().inodes, 2);
    }
}
