//! The container's root filesystem: mounts as a snapshotter describes them.

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
use wharf_containerd::containerd::types::Mount;

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
    /// The filesystem's own options.
    data: Vec<String>,
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
        kind: mount.r#type.clone(),
        source_name: mount.source.clone(),
        reason: reason.to_owned(),
    };
    let below = mount.target.trim_start_matches('/');
    if Path::new(below).components().any(|c| !matches!(c, Component::Normal(_))) {
        return Err(invalid("its target leaves the root filesystem"));
    }
    let mut planned = Planned {
        kind: mount.r#type.clone(),
        source: mount.source.clone(),
        target: PathBuf::from(below),
        bind: matches!(mount.r#type.as_str(), "bind" | "rbind").then_some(Bind::One),
        flags: MountFlags::empty(),
        propagation: None,
        data: Vec::new(),
    };
    for option in &mount.options {
        if !planned.set_flag(option) {
            match option.as_str() {
                "loop" => return Err(invalid("loop devices are not done by this shim")),
                o if o.starts_with("X-containerd.") => {}
                o if o.contains('\0') => return Err(invalid("an option holds a NUL")),
                _ => planned.data.push(option.clone()),
            }
        }
    }
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

    fn execute(&self, root: &Path) -> Result<(), MountError> {
        let target = root.join(&self.target);
        let refused = |error: io::Error| MountError::Refused {
            act: "mount",
            target: target.clone(),
            kind: self.kind.clone(),
            source_name: self.source.clone(),
            error,
        };
        match self.bind {
            Some(Bind::One) => mount_bind(self.source.as_str(), &target).map_err(|e| refused(e.into()))?,
            Some(Bind::Recursive) => {
                mount_bind_recursive(self.source.as_str(), &target).map_err(|e| refused(e.into()))?;
            }
            None => self.filesystem(&target).map_err(refused)?,
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
        let data = self.data.join(",");
        if data.len() < PAGE {
            let data = CString::new(data)?;
            return Ok(mount(self.source.as_str(), target, self.kind.as_str(), self.flags, &*data)?);
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
/// Which mount the kernel refused.
pub fn execute(planned: &[Planned], root: &Path) -> Result<(), MountError> {
    for one in planned {
        if let Err(e) = one.execute(root) {
            if let Err(undo) = unmount_all(root) {
                crate::log::warn(format_args!("after a failed mount: {undo}"));
            }
            return Err(e);
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
