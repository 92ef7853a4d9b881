//! Whether a thing of one tree is the same in the other.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::open_file;
use crate::extract::attributes::{attribute_names, is_allowed};

/// Extended attributes, in order of names.
pub(super) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Something with a name in an open directory.
pub(super) struct Subject<'a> {
    pub(super) parent: BorrowedFd<'a>,
    pub(super) name: &'a CString,
    pub(super) stat: Stat,
}

impl<'a> Subject<'a> {
    /// The root of a tree.
    pub(super) fn of_root(root: &'a OwnedFd) -> Result<Self, Errno> {
        static DOT: std::sync::LazyLock<CString> = std::sync::LazyLock::new(|| c".".to_owned());
        Ok(Subject { parent: root.as_fd(), name: &DOT, stat: rustix::fs::fstat(root)? })
    }

    pub(super) fn open(&self) -> Result<OwnedFd, Errno> {
        open_file(self.parent, self.name)
    }

    pub(super) fn attributes(&self) -> Result<Attributes, Errno> {
        // there is no call that takes a directory and a name
        let start = format!("/proc/self/fd/{}/", self.parent.as_raw_fd());
        let path = [start.as_bytes(), self.name.to_bytes()].concat();
        let mut list = vec![0u8; 1024];
        let length = match rustix::fs::llistxattr(path.as_slice(), list.as_mut_slice()) {
            Err(Errno::RANGE) => {
                list.resize(64 << 10, 0);
                rustix::fs::llistxattr(path.as_slice(), list.as_mut_slice())?
            }
            Err(Errno::NOTSUP) => 0,
            other => other?,
        };
        let names = list[..length].split(|&b| b == 0).map(<[u8]>::to_vec).collect();
        read_all(names, |name, value| rustix::fs::lgetxattr(path.as_slice(), name, value))
    }
}

/// The attributes of an open file or directory that belong in a layer.
pub(super) fn attributes_of(fd: &OwnedFd) -> Result<Attributes, Errno> {
    read_all(attribute_names(fd.as_fd())?, |name, value| rustix::fs::fgetxattr(fd, name, value))
}

/// Overlay's and the host's own ones stay out: what the machine that reads the layer makes of a label or a trusted
/// attribute is its own affair.
fn belongs_in_a_layer(name: &[u8]) -> bool {
    let is_wanted = name == b"security.capability"
        || name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_");
    is_wanted && is_allowed(name)
}

fn read_all(
    names: Vec<Vec<u8>>,
    read: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Attributes, Errno> {
    let mut all = Vec::new();
    for name in names.into_iter().filter(|name| belongs_in_a_layer(name)) {
        let mut value = vec![0; 64 << 10];
        match read(&name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                all.push((name, value));
            }
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(e) => return Err(e),
        }
    }
    all.sort();
    Ok(all)
}

/// Whether the second is to be in the layer.
pub(super) fn differ(old: &Subject<'_>, new: &Subject<'_>) -> Result<bool, Errno> {
    let (a, b) = (&old.stat, &new.stat);
    let kind = FileType::from_raw_mode(b.st_mode);
    if (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid) {
        return Ok(true);
    }
    if kind != FileType::Directory && (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) {
        return Ok(false);
    }
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    if is_device && a.st_rdev != b.st_rdev {
        return Ok(true);
    }
    if kind != FileType::Directory && (a.st_size != b.st_size || a.st_mtime != b.st_mtime) {
        return Ok(true);
    }
    let nanoseconds = (a.st_mtime_nsec, b.st_mtime_nsec);
    let has_both = nanoseconds.0 != 0 && nanoseconds.1 != 0;
    if kind != FileType::Directory && has_both && nanoseconds.0 != nanoseconds.1 {
        return Ok(true);
    }
    if kind == FileType::Symlink {
        let target = |of: &Subject<'_>| rustix::fs::readlinkat(of.parent, of.name, Vec::new());
        if target(old)? != target(new)? {
            return Ok(true);
        }
    }
    // archives know whole seconds: two contents may have the same
    if kind == FileType::RegularFile && !has_both && !same_content(old, new)? {
        return Ok(true);
    }
    Ok(old.attributes()? != new.attributes()?)
}

fn same_content(old: &Subject<'_>, new: &Subject<'_>) -> Result<bool, Errno> {
    let (a, b) = (old.open()?, new.open()?);
    let mut buffers = (vec![0; 128 << 10], vec![0; 128 << 10]);
    let mut at = 0;
    loop {
        let first = read_at(&a, &mut buffers.0, at)?;
        let second = read_at(&b, &mut buffers.1, at)?;
        if buffers.0[..first] != buffers.1[..second] {
            return Ok(false);
        }
        if first == 0 {
            return Ok(true);
        }
        at += first as u64;
    }
}

/// Fills the buffer unless the file ends.
fn read_at(fd: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(fd, &mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
