//! mount_setattr(2), which neither rustix nor nix has.

use crate::check;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// MOUNT_ATTR_* bits (include/uapi/linux/mount.h).
pub mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    /// The field of all access-time modes: must be cleared to set one of them.
    pub const ATIME_FIELD: u64 = 0x70;
    pub const RELATIME: u64 = 0x0;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const IDMAP: u64 = 0x0010_0000;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// How a mount takes part in propagation (MS_* bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    const fn bits(self) -> u64 {
        match self {
            Self::Unbindable => 1 << 17,
            Self::Private => 1 << 18,
            Self::Slave => 1 << 19,
            Self::Shared => 1 << 20,
        }
    }
}

/// One change of a mount, or with `recursive` of a whole tree of mounts.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountChange<'a> {
    pub set: u64,
    pub clear: u64,
    pub propagation: Option<Propagation>,
    /// A user namespace whose mapping the mount takes (sets MOUNT_ATTR_IDMAP).
    pub idmap: Option<BorrowedFd<'a>>,
    pub recursive: bool,
}

/// Layout of `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// mount_setattr(2) on the mount that `path` under `dir` is the root of; an empty path means `dir` itself.
pub fn mount_setattr(dir: impl AsFd, path: &CStr, change: &MountChange<'_>) -> io::Result<()> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let mut attr = MountAttr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation.map_or(0, Propagation::bits),
        userns_fd: 0,
    };
    if let Some(userns) = change.idmap {
        attr.attr_set |= attr::IDMAP;
        attr.userns_fd = userns.as_raw_fd() as u64;
    }
    let mut flags = libc::AT_SYMLINK_NOFOLLOW;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if change.recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: `path` is NUL-terminated, `attr` has the kernel's layout; both live across the call, which only reads them.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}
