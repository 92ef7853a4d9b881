//! Mounts as snapshotters and clients describe them, in the words of fstab: understood first, then done.

mod idmap;
mod loop_device;

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    mount_bind, mount_bind_recursive, mount_change, mount_remount, move_mount, unmount,
};
use wharf_sys::loop_device::Attach;

pub use idmap::{MakeUsers, Mapping};
pub use loop_device::{LoopError, attach_loop, is_attached, release_loop};

/// What is to be mounted: `bind` with `rbind,rw`, `overlay` with its directories, a device or file with its type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    pub kind: String,
    pub source: String,
    /// Below the root to come; empty for the root itself.
    pub target: String,
    pub options: Vec<String>,
}

/// mount(2) takes one page of options.
const PAGE: usize = 4096;

/// Why the root filesystem could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// What is asked for makes no sense.
    #[error("mount {kind} {source_name}: {reason}")]
    Invalid {
        /// The filesystem type.
        kind: String,
        /// The source.
        source_name: String,
        /// Why.
        reason: String,
    },
    /// The kernel refused.
    #[error("{act} {} (type {kind}, source {source_name}): {error}", target.display())]
    Refused {
        /// `mount` or `unmount`.
        act: &'static str,
        /// Where.
        target: PathBuf,
        /// The filesystem type.
        kind: String,
        /// The source.
        source_name: String,
        /// Why.
        error: io::Error,
    },
    /// A mount failed, and so did undoing those before it.
    #[error("{failure}; undoing it: {undo}")]
    NotUndone {
        /// The first failure.
        failure: Box<MountError>,
        /// What is left mounted.
        undo: Box<MountError>,
    },
}

impl MountError {
    /// What the kernel said, where it was asked.
    pub fn os_error(&self) -> Option<i32> {
        match self {
            MountError::Invalid { .. } => None,
            MountError::Refused { error, .. } => error.raw_os_error(),
            MountError::NotUndone { failure, .. } => failure.os_error(),
        }
    }
}

/// One mount, understood but not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    kind: String,
    source: String,
    /// Below the root filesystem.
    target: PathBuf,
    bind: Option<Bind>,
    flags: MountFlags,
    propagation: Option<MountPropagationFlags>,
    /// The source is a file, to be attached to a loop device.
    on_loop: bool,
    /// The filesystem's own options.
    data: Vec<String>,
    /// Whose files they are, if not whom they say.
    mapping: Option<Mapping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bind {
    One,
    Recursive,
}

/// Understands the mounts of a request; nothing is done yet.
///
/// # Errors
/// If a target leaves the root filesystem, or an option needs what the shim does not do.
pub fn plan(mounts: &[Mount]) -> Result<Vec<Planned>, MountError> {
    mounts.iter().map(plan_one).collect()
}

fn plan_one(mount: &Mount) -> Result<Planned, MountError> {
    let invalid = |reason: &str| MountError::Invalid {
        kind: mount.kind.clone(),
        source_name: mount.source.clone(),
        reason: reason.to_owned(),
    };
    let below = mount.target.trim_start_matches('/');
    if Path::new(below).components().any(|c| !matches!(c, Component::Normal(_))) {
        return Err(invalid("its target leaves the root filesystem"));
    }
    let mut planned = Planned {
        kind: mount.kind.clone(),
        source: mount.source.clone(),
        target: PathBuf::from(below),
        bind: matches!(mount.kind.as_str(), "bind" | "rbind").then_some(Bind::One),
        flags: MountFlags::empty(),
        propagation: None,
        on_loop: false,
        data: Vec::new(),
        mapping: None,
    };
    let (mut users, mut groups) = (None, None);
    for option in &mount.options {
        if !planned.set_flag(option) {
            match option.as_str() {
                "loop" => planned.on_loop = true,
                o if o.starts_with("X-containerd.") => {}
                o if o.starts_with("uidmap=") => users = o.strip_prefix("uidmap="),
                o if o.starts_with("gidmap=") => groups = o.strip_prefix("gidmap="),
                o if o.contains('\0') => return Err(invalid("an option holds a NUL")),
                _ => planned.data.push(option.clone()),
            }
        }
    }
    planned.mapping = Mapping::parse(users, groups).map_err(|reason| invalid(&reason))?;
    Ok(planned)
}

impl Planned {
    /// Takes a mount option of all filesystems; false for one of a filesystem's own.
    fn set_flag(&mut self, option: &str) -> bool {
        let (on, flag) = match option {
            "async" => (false, MountFlags::SYNCHRONOUS),
            "atime" => (false, MountFlags::NOATIME),
            "defaults" | "auto" | "noauto" | "user" | "nouser" => (true, MountFlags::empty()),
            "bind" => {
                self.bind.get_or_insert(Bind::One);
                return true;
            }
            "rbind" => {
                self.bind = Some(Bind::Recursive);
                return true;
            }
            "dev" => (false, MountFlags::NODEV),
            "diratime" => (false, MountFlags::NODIRATIME),
            "dirsync" => (true, MountFlags::DIRSYNC),
            "exec" => (false, MountFlags::NOEXEC),
            "noatime" => (true, MountFlags::NOATIME),
            "nodev" => (true, MountFlags::NODEV),
            "nodiratime" => (true, MountFlags::NODIRATIME),
            "noexec" => (true, MountFlags::NOEXEC),
            "norelatime" => (false, MountFlags::RELATIME),
            "nostrictatime" => (false, MountFlags::STRICTATIME),
            "nosuid" => (true, MountFlags::NOSUID),
            "relatime" => (true, MountFlags::RELATIME),
            "ro" => (true, MountFlags::RDONLY),
            "rw" => (false, MountFlags::RDONLY),
            "strictatime" => (true, MountFlags::STRICTATIME),
            "suid" => (false, MountFlags::NOSUID),
            "sync" => (true, MountFlags::SYNCHRONOUS),
            _ => return self.set_propagation(option),
        };
        self.flags.set(flag, on);
        true
    }

    fn set_propagation(&mut self, option: &str) -> bool {
        let (flags, recursive) = match option {
            "private" => (MountPropagationFlags::PRIVATE, false),
            "rprivate" => (MountPropagationFlags::PRIVATE, true),
            "shared" => (MountPropagationFlags::SHARED, false),
            "rshared" => (MountPropagationFlags::SHARED, true),
            "slave" => (MountPropagationFlags::DOWNSTREAM, false),
            "rslave" => (MountPropagationFlags::DOWNSTREAM, true),
            "unbindable" => (MountPropagationFlags::UNBINDABLE, false),
            "runbindable" => (MountPropagationFlags::UNBINDABLE, true),
            _ => return false,
        };
        let recursive = if recursive { MountPropagationFlags::REC } else { MountPropagationFlags::empty() };
        self.propagation = Some(flags | recursive);
        true
    }

    fn execute(&self, root: &Path, make: MakeUsers<'_>) -> Result<(), MountError> {
        let target = root.join(&self.target);
        let refused = |error: io::Error| MountError::Refused {
            act: "mount",
            target: target.clone(),
            kind: self.kind.clone(),
            source_name: self.source.clone(),
            error,
        };
        match (&self.mapping, self.bind) {
            (Some(mapping), _) => idmap::execute(self, mapping, &target, make).map_err(refused)?,
            (None, Some(Bind::One)) => {
                mount_bind(self.source.as_str(), &target).map_err(|e| refused(e.into()))?
            }
            (None, Some(Bind::Recursive)) => {
                mount_bind_recursive(self.source.as_str(), &target).map_err(|e| refused(e.into()))?;
            }
            (None, None) => self.filesystem(&target).map_err(refused)?,
        }
        // a bind mount takes flags in a second step only
        if self.bind.is_some() && !self.flags.is_empty() {
            mount_remount(&target, self.flags | MountFlags::BIND, c"").map_err(|e| refused(e.into()))?;
        }
        if let Some(propagation) = self.propagation {
            mount_change(&target, propagation).map_err(|e| refused(e.into()))?;
        }
        Ok(())
    }

    fn filesystem(&self, target: &Path) -> io::Result<()> {
        if !self.on_loop {
            return self.filesystem_from(&self.source, target);
        }
        // the device goes with the mount; until that is there it is held open
        let attach =
            Attach { read_only: self.flags.contains(MountFlags::RDONLY), autoclear: true, direct_io: false };
        let (device, number) = loop_device::attach(Path::new(&self.source), attach)?;
        let mounted = self.filesystem_from(&format!("/dev/loop{number}"), target);
        drop(device);
        mounted
    }

    fn filesystem_from(&self, source: &str, target: &Path) -> io::Result<()> {
        let data = self.data.join(",");
        if data.len() < PAGE {
            let data = CString::new(data)?;
            return Ok(mount(source, target, self.kind.as_str(), self.flags, &*data)?);
        }
        match self.by_parameters(target) {
            Err(e) if self.kind == "overlay" && is_too_old(&e) => self.by_descriptors(target),
            other => other,
        }
    }

    /// The mount API takes one parameter at a time: any number of layers (`lowerdir+`, Linux 6.5).
    fn by_parameters(&self, target: &Path) -> io::Result<()> {
        let fs = fsopen(self.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", self.source.as_str())?;
        if self.flags.contains(MountFlags::RDONLY) {
            fsconfig_set_flag(&fs, "ro")?;
        }
        for option in &self.data {
            match option.split_once('=') {
                Some(("lowerdir", layers)) if self.kind == "overlay" => {
                    for layer in layers.split(':') {
                        fsconfig_set_string(&fs, "lowerdir+", layer)?;
                    }
                }
                Some((key, value)) => fsconfig_set_string(&fs, key, value)?,
                None => fsconfig_set_flag(&fs, option.as_str())?,
            }
        }
        fsconfig_create(&fs)?;
        let mounted = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes(self.flags))?;
        Ok(move_mount(&mounted, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }

    /// On older kernels: each layer is named by a descriptor, which is short.
    fn by_descriptors(&self, target: &Path) -> io::Result<()> {
        let mut held = Vec::new();
        let mut data = Vec::new();
        for option in &self.data {
            let Some(layers) = option.strip_prefix("lowerdir=") else {
                data.push(option.clone());
                continue;
            };
            let mut names = Vec::new();
            for layer in layers.split(':') {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let fd = rustix::fs::open(layer, flags, Mode::empty())?;
                names.push(format!("/proc/self/fd/{}", fd.as_raw_fd()));
                held.push(fd);
            }
            data.push(format!("lowerdir={}", names.join(":")));
        }
        let data = CString::new(data.join(","))?;
        Ok(mount(self.source.as_str(), target, self.kind.as_str(), self.flags, &*data)?)
    }
}

fn is_too_old(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [Errno::INVAL, Errno::NOSYS].iter().any(|e| errno == Some(e.raw_os_error()))
}

fn attributes(flags: MountFlags) -> MountAttrFlags {
    let table = [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ];
    let set = table.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, attribute)| *attribute);
    set.fold(MountAttrFlags::empty(), |all, attribute| all | attribute)
}

/// Mounts them in order on `root`. On a failure those that were done are undone.
///
/// # Errors
/// Which mount the kernel refused. One with owners to shift is: see [`execute_shifted`].
pub fn execute(planned: &[Planned], root: &Path) -> Result<(), MountError> {
    let refuse = |_: &Mapping| {
        Err(io::Error::new(io::ErrorKind::Unsupported, "owners (uidmap, gidmap) are not shifted here"))
    };
    execute_shifted(planned, root, &refuse)
}

/// The same, with a maker of user namespaces for mounts whose owners are to be shifted (`uidmap=`, `gidmap=`).
///
/// # Errors
/// Which mount the kernel refused.
pub fn execute_shifted(planned: &[Planned], root: &Path, make: MakeUsers<'_>) -> Result<(), MountError> {
    for one in planned {
        if let Err(e) = one.execute(root, make) {
            return Err(match unmount_all(root) {
                Ok(()) => e,
                Err(undo) => MountError::NotUndone { failure: Box::new(e), undo: Box::new(undo) },
            });
        }
    }
    Ok(())
}

/// Unmounts everything at and below `root`, however often it was mounted over. What is busy is detached.
/// Nothing mounted, or no such folder, is fine.
///
/// # Errors
/// What could not be unmounted.
pub fn unmount_all(root: &Path) -> Result<(), MountError> {
    let mut result = Ok(());
    // the usual case is one mount and nothing below it
    while unmount(root, UnmountFlags::NOFOLLOW).is_ok() {}
    for point in below(root) {
        let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
        match unmount(&point, flags) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(e) => {
                result = Err(MountError::Refused {
                    act: "unmount",
                    target: point,
                    kind: String::new(),
                    source_name: String::new(),
                    error: e.into(),
                });
            }
        }
    }
    result
}

/// Mount points at and below `root`, the last mounted first.
fn below(root: &Path) -> Vec<PathBuf> {
    let Ok(root) = std::fs::canonicalize(root) else { return Vec::new() };
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = table.split(|b| *b == b'\n');
    let mut points: Vec<PathBuf> = lines
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|point| PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(point))))
        .filter(|point| point.starts_with(&root))
        .collect();
    points.reverse();
    points
}

/// mountinfo writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at..] {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                at += 4;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
