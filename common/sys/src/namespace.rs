//! Creating and entering namespaces of the calling process.

use crate::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A set of namespace kinds, as the kernel's CLONE_NEW* bits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    pub const NONE: Self = Self(0);
    pub const TIME: Self = Self(0x80);
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);

    /// From CLONE_NEW* bits; others are dropped.
    pub const fn from_bits(bits: u64) -> Self {
        let all = Self::TIME.0
            | Self::MOUNT.0
            | Self::CGROUP.0
            | Self::UTS.0
            | Self::IPC.0
            | Self::USER.0
            | Self::PID.0
            | Self::NET.0;
        Self(bits & all)
    }
    /// The CLONE_NEW* bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// unshare(2): moves the caller into new namespaces (for PID and TIME: its future children).
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: no pointers; only CLONE_NEW* bits can be in the set, so descriptors and memory stay shared as they were.
    check(unsafe { libc::syscall(libc::SYS_unshare, namespaces.bits()) })?;
    Ok(())
}

/// setns(2) with a namespace descriptor (`namespaces` names its kind, or is empty) or with a pidfd, in which case all
/// the named kinds of that process are entered in one step.
pub fn setns(fd: impl AsFd, namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: no pointers; the descriptor is borrowed for the call.
    check(unsafe {
        libc::syscall(libc::SYS_setns, fd.as_fd().as_raw_fd(), namespaces.bits() as libc::c_int)
    })?;
    Ok(())
}
