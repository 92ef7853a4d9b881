//! What the host's kernel offers, looked up once.

use crate::config::ConfigError;
use crate::plan::process::ProcessPlan;
use std::path::Path;

#[derive(Debug, Clone, Copy)]
pub struct Host {
    pub apparmor: bool,
    pub selinux: bool,
}

impl Host {
    pub fn detect() -> Self {
        let apparmor =
            std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|v| v.starts_with(b"Y"));
        Self { apparmor, selinux: Path::new("/sys/fs/selinux/enforce").exists() }
    }

    /// A label that the kernel cannot enforce is an error: going on without it would be running unconfined.
    pub fn check_labels(
        self,
        process: &ProcessPlan,
        mount_label: Option<&str>,
        at: &str,
    ) -> Result<(), ConfigError> {
        if let Some(profile) = process.apparmor.as_ref().filter(|p| !self.apparmor && *p != "unconfined") {
            return Err(ConfigError::invalid(
                format!("{at}.apparmorProfile"),
                format!("{profile:?} cannot be applied: AppArmor is not enabled on this host"),
            ));
        }
        if process.selinux.is_some() && !self.selinux {
            return Err(ConfigError::invalid(
                format!("{at}.selinuxLabel"),
                "SELinux is not enabled on this host",
            ));
        }
        if mount_label.is_some_and(|l| !l.is_empty()) && !self.selinux {
            return Err(ConfigError::invalid("linux.mountLabel", "SELinux is not enabled on this host"));
        }
        Ok(())
    }
}
