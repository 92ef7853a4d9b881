//! A procfs of the runtime's own, attached nowhere: nobody can mount over its files (CVE-2025-52881).

use super::RootfsError;
use super::mount::new_filesystem;
use super::resolve::Root;
use crate::plan::options::{Attrs, Param};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat, openat2, readlinkat};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// A private procfs of the caller's pid namespace.
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    /// A full one, or where the kernel refuses that (a user namespace whose /proc is partly hidden) one without
    /// /proc/sys.
    pub fn new() -> Result<Self, RootfsError> {
        let subset = [Param::Pair("subset".into(), "pid".into())];
        let fd = new_filesystem("proc", "proc", &[], Attrs::default())
            .or_else(|_| new_filesystem("proc", "proc", &subset, Attrs::default()))?;
        let fs = fstatfs(&fd).map_err(RootfsError::act("looking at", "/proc"))?;
        if fs.f_type as i64 != PROC_SUPER_MAGIC {
            return Err(RootfsError::refused("/proc", "the private procfs is no procfs"));
        }
        Ok(Self(fd))
    }

    /// Writes to a file of procfs. No link of any kind is followed and no mount is crossed.
    pub fn write(&self, path: &str, data: &[u8]) -> Result<(), RootfsError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let file = openat2(&self.0, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(RootfsError::act("opening", Path::new("/proc").join(path)))?;
        let fs = fstatfs(&file).map_err(RootfsError::act("looking at", path))?;
        if fs.f_type as i64 != PROC_SUPER_MAGIC {
            return Err(RootfsError::refused(path, "not on procfs"));
        }
        match rustix::io::write(&file, data) {
            Ok(n) if n == data.len() => Ok(()),
            Ok(_) => Err(RootfsError::refused(path, "written in part only")),
            Err(e) => Err(RootfsError::act("writing", Path::new("/proc").join(path))(e)),
        }
    }
}

/// The directory of this process's descriptors, through which it opens again what it has by O_PATH.
#[derive(Debug)]
pub struct Descriptors(OwnedFd);

impl Descriptors {
    /// Through the procfs of the container, if that was mounted for it and has nothing in the way, else through a
    /// private one: that costs a mount, and taking it away waits for an RCU grace period, which containers that are
    /// made at the same time wait for one after another.
    pub fn open(container: Option<&Root>) -> Result<Self, RootfsError> {
        match container.map(Self::below) {
            Some(Ok(own)) => Ok(own),
            _ => Self::below(&Proc::new()?.0),
        }
    }

    /// No mount is crossed and no link followed on the way; a procfs of another pid namespace is refused.
    fn below(proc: impl AsFd) -> Result<Self, RootfsError> {
        let own = rustix::process::getpid().as_raw_nonzero().to_string();
        let named =
            readlinkat(&proc, "self", Vec::new()).map_err(RootfsError::act("reading", "/proc/self"))?;
        if named.to_bytes() != own.as_bytes() {
            return Err(RootfsError::refused("/proc/self", "is not this process"));
        }
        // of the thread, as runc has it open: who lists what init holds knows it by that name
        let path = format!("{own}/task/{own}/fd");
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat2(&proc, path.as_str(), flags, Mode::empty(), resolve)
            .map_err(RootfsError::act("opening", "/proc/self/fd"))?;
        let fs = fstatfs(&dir).map_err(RootfsError::act("looking at", "/proc/self/fd"))?;
        if fs.f_type as i64 != PROC_SUPER_MAGIC {
            return Err(RootfsError::refused("/proc/self/fd", "not on procfs"));
        }
        Ok(Self(dir))
    }

    /// Opens again, with other flags, what a descriptor of this process refers to.
    pub fn reopen(&self, fd: impl AsFd, flags: OFlags) -> Result<OwnedFd, RootfsError> {
        let number = fd.as_fd().as_raw_fd().to_string();
        openat(&self.0, number.as_str(), flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(RootfsError::act("opening", Path::new("/proc/self/fd").join(&number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn host() -> OwnedFd {
        rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn what_a_descriptor_refers_to_is_opened_again_with_other_flags() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        let path = rustix::fs::open(file.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let fd = Descriptors::below(host()).unwrap().reopen(&path, OFlags::RDONLY).unwrap();
        let mut text = String::new();
        std::fs::File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }

    #[test]
    fn what_is_no_procfs_of_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id().to_string();
        std::fs::create_dir_all(dir.path().join(format!("{own}/task/{own}/fd"))).unwrap();
        let open = || std::fs::File::open(dir.path()).unwrap();
        assert!(Descriptors::below(open()).is_err(), "without self");
        std::os::unix::fs::symlink("1", dir.path().join("self")).unwrap();
        assert!(Descriptors::below(open()).is_err(), "another process");
        std::fs::remove_file(dir.path().join("self")).unwrap();
        std::os::unix::fs::symlink(own, dir.path().join("self")).unwrap();
        assert!(Descriptors::below(open()).is_err(), "no procfs");
    }
}
