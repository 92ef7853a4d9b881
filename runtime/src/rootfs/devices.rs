//! Device nodes and the usual links of /dev, made after pivot_root.

use super::RootfsError;
use super::mount::attach;
use super::resolve::{Root, Target};
use crate::plan::devices::{Device, DeviceKind};
use crate::sources::Tree;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The devices every container has (runtime-spec, "Default Devices"), where config.json does not list the same path.
pub fn with_defaults(devices: &[Device]) -> Vec<Device> {
    let defaults =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let mut all: Vec<Device> = defaults
        .into_iter()
        .map(|(name, major, minor)| Device {
            path: Path::new("/dev").join(name),
            kind: DeviceKind::Char(major, minor),
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .filter(|d| !devices.iter().any(|other| other.path == d.path))
        .collect();
    all.extend_from_slice(devices);
    all
}

/// Makes all nodes; where `bound` has the host's device, binds that instead.
pub fn make(root: &Root, devices: &[Device], bound: &mut [Option<Tree>]) -> Result<(), RootfsError> {
    let mut parent: Option<(PathBuf, OwnedFd)> = None;
    for (i, device) in devices.iter().enumerate() {
        if let Some(tree) = bound.get_mut(i).and_then(Option::take) {
            let target = root.ensure(&device.path, Target::File)?;
            attach(&tree.fd, &target, &device.path)?;
            continue;
        }
        let dir = device.path.parent().unwrap_or(Path::new("/"));
        if parent.as_ref().is_none_or(|(path, _)| path != dir) {
            parent = Some((dir.to_owned(), root.ensure(dir, Target::Directory)?));
        }
        if let Some((_, dir)) = &parent {
            node(dir, device)?;
        }
    }
    Ok(())
}

fn node(dir: &OwnedFd, device: &Device) -> Result<(), RootfsError> {
    let path = &device.path;
    let name = path.file_name().ok_or_else(|| RootfsError::refused(path, "has no file name"))?;
    let (kind, number) = match device.kind {
        DeviceKind::Char(major, minor) => (FileType::CharacterDevice, makedev(major, minor)),
        DeviceKind::Block(major, minor) => (FileType::BlockDevice, makedev(major, minor)),
        DeviceKind::Fifo => (FileType::Fifo, 0),
    };
    match mknodat(dir, name, kind, Mode::from_raw_mode(device.mode), number) {
        Ok(()) if device.uid == 0 && device.gid == 0 => Ok(()),
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
            chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(RootfsError::act("setting the owner of", path))
        }
        // a /dev that came with the image may have it already; anything else there is not to be trusted
        Err(Errno::EXIST) => {
            let stat =
                statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(RootfsError::act("looking at", path))?;
            if FileType::from_raw_mode(stat.st_mode) == kind
                && (kind == FileType::Fifo || stat.st_rdev == number)
            {
                Ok(())
            } else {
                Err(RootfsError::refused(path, "exists and is not the device that is to be made there"))
            }
        }
        Err(e) => Err(RootfsError::act("creating device", path)(e)),
    }
}

/// The links programs expect in /dev. What the image has under these names stays, but for ptmx, which must lead to the
/// container's own pseudo-terminals.
pub fn links(root: &Root) -> Result<(), RootfsError> {
    let dev = Path::new("/dev");
    let dir = match root.open_without_symlinks(dev, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(RootfsError::act("opening", dev)(e)),
    };
    let list = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
    ];
    for (name, to) in list {
        match symlinkat(to, &dir, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(RootfsError::act("linking", dev.join(name))(e)),
        }
    }
    match unlinkat(&dir, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(RootfsError::act("removing", "/dev/ptmx")(e)),
    }
    symlinkat("pts/ptmx", &dir, "ptmx").map_err(RootfsError::act("linking", "/dev/ptmx"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_device_takes_the_place_of_a_default() {
        let own =
            Device { path: "/dev/null".into(), kind: DeviceKind::Char(1, 3), mode: 0o600, uid: 1, gid: 1 };
        let all = with_defaults(std::slice::from_ref(&own));
        assert_eq!(all.len(), 6);
        assert_eq!(all.iter().filter(|d| d.path == Path::new("/dev/null")).collect::<Vec<_>>(), [&own]);
    }
}
