//! Facts of the machine that a spec depends on.

use std::fs;
use std::path::Path;

use crate::caps;
use crate::error::SpecError;

/// Read once when a daemon starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Major and minor version.
    pub kernel: (u32, u32),
    /// Capabilities that this process can hand on: those of its bounding set that have a name here.
    pub capabilities: Vec<String>,
    /// Whether the kernel has seccomp filters.
    pub seccomp: bool,
    /// `net.ipv4.ping_group_range` exists.
    pub ping_group_range: bool,
    /// `net.ipv4.ip_unprivileged_port_start` exists.
    pub unprivileged_port_start: bool,
    /// Whether mounts can be made read-only with all that is mounted below (mount_setattr, Linux 5.12), and the
    /// runtime knows the option `rro`.
    pub recursive_read_only: bool,
    /// Paths masked beside [`crate::paths::MASKED`]: each CPU's `thermal_throttle`, where the machine has it.
    pub masked_paths: Vec<String>,
}

impl Host {
    /// Looks at /proc and /sys.
    pub fn detect() -> Result<Host, SpecError> {
        let release = read("/proc/sys/kernel/osrelease")?;
        let status = read("/proc/self/status")?;
        let kernel = parse_release(&release).ok_or_else(|| SpecError::HostContent {
            path: "/proc/sys/kernel/osrelease",
            content: release.clone(),
        })?;
        let bounding = status
            .lines()
            .find_map(|l| l.strip_prefix("CapBnd:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .ok_or_else(|| SpecError::HostContent {
                path: "/proc/self/status",
                content: "no CapBnd line".into(),
            })?;
        Ok(Host {
            kernel,
            capabilities: caps::names(bounding),
            seccomp: status.lines().any(|l| l.starts_with("Seccomp:")),
            ping_group_range: Path::new("/proc/sys/net/ipv4/ping_group_range").exists(),
            unprivileged_port_start: Path::new("/proc/sys/net/ipv4/ip_unprivileged_port_start").exists(),
            recursive_read_only: kernel >= (5, 12),
            masked_paths: thermal_throttle(Path::new("/sys/devices/system/cpu")),
        })
    }
}

fn read(path: &'static str) -> Result<String, SpecError> {
    fs::read_to_string(path).map_err(|source| SpecError::Host { path, source })
}

/// `6.1.0-13-amd64` is (6, 1); `5.10-rc1` is (5, 10).
fn parse_release(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.trim().split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

fn thermal_throttle(cpus: &Path) -> Vec<String> {
    let mut found: Vec<(u32, String)> = Vec::new();
    for entry in fs::read_dir(cpus).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(number) = name.strip_prefix("cpu").and_then(|n| n.parse().ok()) else { continue };
        let path = cpus.join(&name).join("thermal_throttle");
        if path.exists() {
            found.push((number, path.to_string_lossy().into_owned()));
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_of_distributions_are_understood() {
        assert_eq!(parse_release("6.1.0-13-amd64\n"), Some((6, 1)));
        assert_eq!(parse_release("3.12-1-amd64"), Some((3, 12)));
        assert_eq!(parse_release("5.10+"), Some((5, 10)));
        assert_eq!(parse_release("weird"), None);
    }

    #[test]
    fn the_machine_itself_is_detected() {
        let host = Host::detect().unwrap();
        assert!(host.kernel >= (4, 0), "{host:?}");
    }

    #[test]
    fn cpus_with_thermal_throttle_are_masked_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for cpu in ["cpu10", "cpu2", "cpufreq"] {
            fs::create_dir_all(dir.path().join(cpu).join("thermal_throttle")).unwrap();
        }
        fs::create_dir(dir.path().join("cpu3")).unwrap();
        let paths = thermal_throttle(dir.path());
        assert_eq!(paths.len(), 2);
        assert!(paths[0].contains("/cpu2/") && paths[1].contains("/cpu10/"), "{paths:?}");
    }
}
