//! Device nodes, from `linux.devices`. Pure.

use super::mounts::clean_absolute;
use crate::config::ConfigError;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use std::path::{Path, PathBuf};

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// Checks all device nodes.
pub fn plan(list: &[LinuxDevice]) -> Result<Vec<Device>, ConfigError> {
    let mut out = Vec::with_capacity(list.len());
    for (i, d) in list.iter().enumerate() {
        let at = format!("linux.devices[{i}]");
        let number = |name: &str, v: i64| {
            // what the kernel keeps of them (include/linux/kdev_t.h); the rest would be cut off
            let max = if name == "major" { 0xfff } else { 0xf_ffff };
            u32::try_from(v).ok().filter(|n| *n <= max).ok_or_else(|| {
                ConfigError::invalid(
                    format!("{at}.{name}"),
                    format!("{v} is no device number; 0 to {max} are allowed"),
                )
            })
        };
        let kind = match d.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => {
                DeviceKind::Char(number("major", d.major())?, number("minor", d.minor())?)
            }
            LinuxDeviceType::B => DeviceKind::Block(number("major", d.major())?, number("minor", d.minor())?),
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => {
                return Err(ConfigError::invalid(
                    format!("{at}.type"),
                    "\"a\" is no device; allowed are c, u, b, p",
                ));
            }
        };
        let path = clean_absolute(&format!("{at}.path"), d.path())?;
        if path == Path::new("/") {
            return Err(ConfigError::invalid(format!("{at}.path"), "empty; an absolute path is required"));
        }
        out.push(Device {
            path,
            kind,
            mode: d.file_mode().unwrap_or(0o666) & 0o7777,
            uid: d.uid().unwrap_or(0),
            gid: d.gid().unwrap_or(0),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_the_kernel_would_cut_are_refused() {
        let planned = |major: i64, minor: i64| {
            let json = serde_json::json!([{"path": "/dev/x", "type": "c", "major": major, "minor": minor}]);
            plan(&serde_json::from_value::<Vec<LinuxDevice>>(json).expect("devices"))
        };
        assert_eq!(planned(4095, 1_048_575).unwrap()[0].kind, DeviceKind::Char(4095, 1_048_575));
        for (major, minor, field) in [(4096, 0, "major"), (1, 1_048_576, "minor"), (-1, 0, "major")] {
            let error = planned(major, minor).unwrap_err().to_string();
            assert!(error.contains(&format!("linux.devices[0].{field}: ")), "{error}");
        }
    }
}
