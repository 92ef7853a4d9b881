//! A procfs of the runtime's own, attached nowhere: nobody can mount over its files (CVE-2025-52881).

use super::RootfsError;
use super::mount::new_filesystem;
use crate::plan::options::{Attrs, Param};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat, openat2};
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

    /// Opens again, with other flags, what a descriptor of this process refers to.
    pub fn reopen(&self, fd: impl AsFd, flags: OFlags) -> Result<OwnedFd, RootfsError> {
        let path = format!("self/fd/{}", fd.as_fd().as_raw_fd());
        openat(&self.0, path.as_str(), flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(RootfsError::act("opening", path))
    }
}
