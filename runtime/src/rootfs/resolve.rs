//! Looking up and making paths inside a container root, never outside it.

use super::RootfsError;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2, readlinkat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// As the kernel's own limit.
const MAX_SYMLINKS: usize = 40;
/// A rename elsewhere in the tree makes openat2 say EAGAIN; an attacker can do that for ever.
const MAX_RETRIES: usize = 128;

/// The root directory of a container.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// What a mount target has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Directory,
    File,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Root {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens `path` inside the root. Symlinks are followed inside the root; magic links (`/proc/*/fd/*`) never are.
    pub fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.openat2(path, flags, Mode::empty(), ResolveFlags::empty())
    }

    /// As `open`, but a symlink anywhere in the path is ELOOP.
    pub fn open_without_symlinks(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        // with O_PATH and O_NOFOLLOW together the kernel would open a link at the end of the path itself (openat2(2))
        self.openat2(path, flags - OFlags::NOFOLLOW, Mode::empty(), ResolveFlags::NO_SYMLINKS)
    }

    fn openat2(&self, path: &Path, flags: OFlags, mode: Mode, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        for _ in 0..MAX_RETRIES {
            match openat2(&self.fd, relative, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens (O_PATH) a mount target, making it and the directories above it where they are missing.
    pub fn ensure(&self, path: &Path, target: Target) -> Result<OwnedFd, RootfsError> {
        let fd = match self.open(path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => self.create(path, target)?,
            Err(e) => return Err(RootfsError::act("opening", path)(e)),
        };
        let stat = fstat(&fd).map_err(RootfsError::act("looking at", path))?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match target {
            Target::Directory if !is_dir => Err(RootfsError::refused(path, "not a directory")),
            Target::File if is_dir => {
                Err(RootfsError::refused(path, "is a directory; a file is to be mounted there"))
            }
            _ => Ok(fd),
        }
    }

    /// Makes what is missing of the path. Each name is made in a directory that was opened below the root without
    /// following a symlink.
    fn create(&self, path: &Path, target: Target) -> Result<OwnedFd, RootfsError> {
        let done = self.walk(path, |parent, here, name, last| {
            self.make(parent, here, name, if last { target } else { Target::Directory })
        })?;
        self.open_without_symlinks(&done, OFlags::PATH).map_err(RootfsError::act("opening", &done))
    }

    /// Where the path leads, absolute inside the root and free of symlinks. It need not be there.
    pub fn real(&self, path: &Path) -> Result<PathBuf, RootfsError> {
        self.walk(path, |_, _, _, _| Ok(()))
    }

    /// Walks the path one name at a time, following symlinks inside the root even where they dangle. `missing` is told of
    /// what is not there: its parent, itself, its name, whether it is the last.
    fn walk(
        &self,
        path: &Path,
        missing: impl Fn(&Path, &Path, &OsString, bool) -> Result<(), RootfsError>,
    ) -> Result<PathBuf, RootfsError> {
        let mut done = PathBuf::from("/");
        let mut todo: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            let here = done.join(&name);
            let opened =
                self.openat2(&here, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty(), ResolveFlags::empty());
            match opened {
                Ok(fd) => {
                    let stat = fstat(&fd).map_err(RootfsError::act("looking at", &here))?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                        done = here;
                        continue;
                    }
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(RootfsError::act("following", path)(Errno::LOOP));
                    }
                    let link =
                        readlinkat(&fd, "", Vec::new()).map_err(RootfsError::act("reading link", &here))?;
                    let link = PathBuf::from(OsString::from_vec(link.into_bytes()));
                    if link.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    for part in names(&link).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                Err(Errno::NOENT) => {
                    missing(&done, &here, &name, todo.is_empty())?;
                    done = here;
                }
                Err(e) => return Err(RootfsError::act("opening", &here)(e)),
            }
        }
        Ok(done)
    }

    fn make(&self, parent: &Path, path: &Path, name: &OsString, target: Target) -> Result<(), RootfsError> {
        let dir = self
            .open_without_symlinks(parent, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(RootfsError::act("opening", parent))?;
        let made = match target {
            Target::Directory => mkdirat(&dir, name, Mode::from_raw_mode(0o755)),
            Target::File => rustix::fs::openat(
                &dir,
                name,
                OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o644),
            )
            .map(drop),
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(RootfsError::act("creating mount target", path)(e)),
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(n) => Some(n.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let fd =
            rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .unwrap();
        (dir, Root::new(fd))
    }

    #[test]
    fn missing_targets_are_made() {
        let (dir, root) = root();
        root.ensure(Path::new("/a/b/c"), Target::Directory).unwrap();
        root.ensure(Path::new("/a/b/f"), Target::File).unwrap();
        assert!(dir.path().join("a/b/c").is_dir());
        assert!(dir.path().join("a/b/f").is_file());
    }

    #[test]
    fn symlinks_stay_inside_the_root() {
        let (dir, root) = root();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("abs")).unwrap();
        symlink("../../../../../../..", dir.path().join("up")).unwrap();
        root.ensure(Path::new("/abs/x"), Target::Directory).unwrap();
        root.ensure(Path::new("/up/y"), Target::Directory).unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(dir.path().join("y").is_dir());
        assert!(dir.path().join(outside.path().strip_prefix("/").unwrap()).join("x").is_dir());
    }

    #[test]
    fn a_dangling_symlink_is_filled_inside_the_root() {
        let (dir, root) = root();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../run/resolve/stub.conf", dir.path().join("etc/resolv.conf")).unwrap();
        root.ensure(Path::new("/etc/resolv.conf"), Target::File).unwrap();
        assert!(dir.path().join("run/resolve/stub.conf").is_file());
    }

    #[test]
    fn a_real_path_has_no_symlinks_and_need_not_be_there() {
        let (dir, root) = root();
        std::fs::create_dir_all(dir.path().join("run/lock")).unwrap();
        symlink("/run", dir.path().join("var")).unwrap();
        symlink("../../../lock", dir.path().join("run/up")).unwrap();
        for (path, real) in [("/var/lock/x/y", "/run/lock/x/y"), ("/run/up", "/lock"), ("/", "/")] {
            assert_eq!(root.real(Path::new(path)).unwrap(), Path::new(real));
        }
        assert!(!dir.path().join("run/lock/x").exists());
    }

    #[test]
    fn a_symlink_loop_ends_in_an_error() {
        let (dir, root) = root();
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(root.ensure(Path::new("/loop/x"), Target::Directory).is_err());
    }

    #[test]
    fn the_kind_of_a_target_is_checked() {
        let (dir, root) = root();
        std::fs::write(dir.path().join("f"), "").unwrap();
        assert!(root.ensure(Path::new("/f"), Target::Directory).is_err());
        assert!(root.ensure(Path::new("/"), Target::File).is_err());
    }

    #[test]
    fn a_symlink_is_no_end_of_a_path_without_symlinks() {
        let (dir, root) = root();
        symlink("tmp", dir.path().join("link")).unwrap();
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        assert_eq!(root.open_without_symlinks(Path::new("/link"), flags).unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn magic_links_are_refused() {
        let proc =
            rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let root = Root::new(proc);
        assert_eq!(root.open(Path::new("/proc/self/cwd"), OFlags::PATH).unwrap_err(), Errno::LOOP);
    }
}
