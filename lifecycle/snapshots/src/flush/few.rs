//! A small layer to disk by itself, so that it need not wait for all that others write.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};

/// A layer with more things is flushed with everything else: each file may cost a commit of the journal.
const MOST_FILES: usize = 16;
const MOST_THINGS: usize = 64;

#[derive(Default)]
struct Found {
    files: Vec<OwnedFd>,
    directories: Vec<OwnedFd>,
    things: usize,
}

/// Flushes the tree if it has few things. False if it has more: nothing was done.
///
/// It may be filled by somebody hostile and change meanwhile: nothing is followed, and nothing is opened but directories
/// and regular files.
pub(crate) fn flush_few(tree: impl AsFd) -> io::Result<bool> {
    let mut found = Found::default();
    found.directories.push(open(tree.as_fd(), c".", OFlags::RDONLY | OFlags::DIRECTORY)?);
    let mut next = 0;
    while next < found.directories.len() {
        if !found.look_into(next)? {
            return Ok(false);
        }
        next += 1;
    }
    // files before the names that lead to them
    for file in found.files.iter().chain(found.directories.iter().rev()) {
        rustix::fs::fsync(file)?;
    }
    Ok(true)
}

fn open(parent: BorrowedFd<'_>, name: &std::ffi::CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

impl Found {
    /// Opens what a directory has. False if that is too much.
    fn look_into(&mut self, number: usize) -> io::Result<bool> {
        let directory = self.directories[number].try_clone()?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.things += 1;
            if self.things > MOST_THINGS {
                return Ok(false);
            }
            let thing = match open(directory.as_fd(), name, OFlags::PATH) {
                Ok(thing) => thing,
                // removed meanwhile
                Err(rustix::io::Errno::NOENT) => continue,
                Err(e) => return Err(e.into()),
            };
            match FileType::from_raw_mode(rustix::fs::fstat(&thing)?.st_mode) {
                FileType::Directory => {
                    self.directories.push(open(thing.as_fd(), c".", OFlags::RDONLY | OFlags::DIRECTORY)?);
                }
                FileType::RegularFile => {
                    if self.files.len() == MOST_FILES {
                        return Ok(false);
                    }
                    let path = format!("/proc/self/fd/{}", thing.as_raw_fd());
                    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                    self.files.push(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
                }
                // of others there is nothing but the name and the attributes, which go with the directory
                _ => {}
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn a_small_tree_is_flushed_and_a_large_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for n in 0..MOST_FILES {
            fs::write(dir.path().join(format!("a/{n}")), "x").unwrap();
        }
        std::os::unix::fs::symlink("/nowhere", dir.path().join("link")).unwrap();
        // which would keep whoever opens it waiting
        rustix::fs::mknodat(CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let tree = File::open(dir.path()).unwrap();
        assert!(flush_few(&tree).unwrap());
        fs::write(dir.path().join("one-more"), "x").unwrap();
        assert!(!flush_few(&tree).unwrap(), "too many files");
    }

    #[test]
    fn many_directories_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..MOST_THINGS {
            fs::create_dir(dir.path().join(n.to_string())).unwrap();
        }
        let tree = File::open(dir.path()).unwrap();
        assert!(flush_few(&tree).unwrap());
        fs::create_dir(dir.path().join("one-more")).unwrap();
        assert!(!flush_few(&tree).unwrap());
    }
}
