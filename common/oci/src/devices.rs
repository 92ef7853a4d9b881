//! Device nodes given to a container, and the rules for their use.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::SpecError;

/// Directories under /dev that hold no devices for containers: they are the container's own mounts, or a socket's.
const NOT_OF_HOST: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
/// Devices taken from one directory at most.
const MAX_DEVICES: usize = 16_384;

/// A device node of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// In the container.
    pub path: PathBuf,
    /// Block, or else character.
    pub block: bool,
    /// The device.
    pub major: u32,
    /// The device.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Some of `rwm`.
    pub access: String,
}

/// A path that gives no device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The path cannot be looked at. The text begins as Docker's does.
    #[error("error gathering device information while adding custom device {path:?}: {source}")]
    Stat {
        /// On the host.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither a device nor a directory with one.
    #[error("error gathering device information while adding custom device {0:?}: not a device node")]
    NotADevice(PathBuf),
    /// Letters other than `rwm`.
    #[error("invalid device mode: {0}")]
    Access(String),
}

impl DeviceError {
    /// The class of the failure.
    pub fn kind(&self) -> wharf_kinds::Kind {
        wharf_kinds::Kind::InvalidArgument
    }
}

/// The device that `host` is or leads to; or every device below it, if it is a directory.
pub fn resolve(host: &Path, in_container: &Path, access: &str) -> Result<Vec<Device>, DeviceError> {
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(DeviceError::Access(access.to_owned()));
    }
    let stat = |source| DeviceError::Stat { path: host.to_owned(), source };
    let real = fs::canonicalize(host).map_err(stat)?;
    let meta = fs::metadata(&real).map_err(stat)?;
    if let Some(device) = of(&meta, in_container.to_owned(), access) {
        return Ok(vec![device]);
    }
    let mut out = Vec::new();
    if meta.is_dir() {
        walk(&real, &|p| in_container.join(p.strip_prefix(&real).unwrap_or(p)), access, &[], &mut out);
    }
    if out.is_empty() { Err(DeviceError::NotADevice(host.to_owned())) } else { Ok(out) }
}

/// Every device of the host's /dev, for a privileged container.
pub fn all_of_host() -> Vec<Device> {
    let mut out = Vec::new();
    walk(Path::new("/dev"), &Path::to_owned, "rwm", &NOT_OF_HOST, &mut out);
    out.retain(|d| d.path != Path::new("/dev/console"));
    out
}

fn walk(dir: &Path, place: &dyn Fn(&Path) -> PathBuf, access: &str, skip: &[&str], out: &mut Vec<Device>) {
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if out.len() >= MAX_DEVICES {
            return;
        }
        // not followed: a link below /dev leads to a device that is listed by its own name
        let Ok(meta) = entry.metadata() else { continue };
        let path = entry.path();
        if meta.is_dir() {
            if !skip.iter().any(|s| entry.file_name() == *s) {
                walk(&path, place, access, skip, out);
            }
        } else if let Some(device) = of(&meta, place(&path), access) {
            out.push(device);
        }
    }
}

fn of(meta: &fs::Metadata, path: PathBuf, access: &str) -> Option<Device> {
    let kind = meta.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return None;
    }
    let number = meta.rdev();
    Some(Device {
        path,
        block: kind.is_block_device(),
        major: rustix::fs::major(number),
        minor: rustix::fs::minor(number),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.to_owned(),
    })
}

pub(crate) fn rule(
    allow: bool,
    typ: Option<LinuxDeviceType>,
    numbers: Option<(i64, i64)>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(typ)
        .set_major(numbers.map(|n| n.0))
        .set_minor(numbers.map(|n| n.1))
        .set_access(Some(access.to_owned()));
    rule
}

/// What Docker allows every container: the devices that the runtime makes, and not /dev/fuse.
pub(crate) fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let c = Some(LinuxDeviceType::C);
    let mut out = vec![rule(false, None, None, "rwm")];
    for numbers in [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)] {
        out.push(rule(true, c, Some(numbers), "rwm"));
    }
    out.push(rule(false, c, Some((10, 229)), "rwm"));
    out
}

impl Device {
    pub(crate) fn rule(&self) -> LinuxDeviceCgroup {
        let typ = if self.block { LinuxDeviceType::B } else { LinuxDeviceType::C };
        rule(true, Some(typ), Some((self.major.into(), self.minor.into())), &self.access)
    }

    pub(crate) fn node(&self) -> LinuxDevice {
        let mut node = LinuxDevice::default();
        node.set_path(self.path.clone())
            .set_typ(if self.block { LinuxDeviceType::B } else { LinuxDeviceType::C })
            .set_major(self.major.into())
            .set_minor(self.minor.into())
            .set_file_mode(Some(self.mode))
            .set_uid(Some(self.uid))
            .set_gid(Some(self.gid));
        node
    }
}

/// `--device-cgroup-rule`: `a|b|c major:minor rwm`, numbers or `*`.
pub(crate) fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup, SpecError> {
    let bad = || SpecError::DeviceRule(text.to_owned());
    let fields: Vec<&str> = text.split(' ').collect();
    let [typ, numbers, access] = fields[..] else { return Err(bad()) };
    let typ = match typ {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(bad()),
    };
    let number = |n: &str| -> Result<i64, SpecError> {
        match n {
            "*" => Ok(-1),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse::<u32>().map(i64::from).map_err(|_| bad())
            }
            _ => Err(bad()),
        }
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(bad());
    }
    Ok(rule(true, Some(typ), Some((number(major)?, number(minor)?)), access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_path_and_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), &link] {
            let found = resolve(path, Path::new("/dev/nothing"), "rw").unwrap();
            assert_eq!(found.len(), 1);
            let d = &found[0];
            assert_eq!((d.block, d.major, d.minor, d.path.to_str()), (false, 1, 3, Some("/dev/nothing")));
            assert_eq!(d.access, "rw");
        }
    }

    #[test]
    fn what_is_no_device_is_an_error_in_dockers_words() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), &dir.path().join("none")] {
            let error = resolve(path, Path::new("/x"), "r").unwrap_err().to_string();
            assert!(
                error.starts_with("error gathering device information while adding custom device"),
                "{error}"
            );
        }
        assert!(resolve(Path::new("/dev/null"), Path::new("/x"), "rx").is_err());
    }

    #[test]
    fn cgroup_rules_are_parsed_as_docker_does() {
        let r = parse_rule("c 10:* rw").unwrap();
        assert_eq!((r.major(), r.minor(), r.access().as_deref()), (Some(10), Some(-1), Some("rw")));
        for bad in [
            "",
            "a",
            "c 1 r",
            "d 1:1 r",
            "c 1:1 x",
            "c 1:1 rwmr",
            "c -1:1 r",
            "c 1:1  r",
            "c :1 r",
            "c 99999999999:1 r",
        ] {
            assert!(parse_rule(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_hosts_devices_have_null_but_no_terminals() {
        let all = all_of_host();
        assert!(all.iter().any(|d| (d.major, d.minor) == (1, 3) && !d.block));
        assert!(!all.iter().any(|d| d.path.starts_with("/dev/pts")));
    }
}
