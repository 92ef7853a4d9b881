//! Network interfaces that move into the container, from `linux.netDevices` (runtime-spec 1.3). Pure.

use super::namespaces::NamespacePlan;
use crate::config::ConfigError;
use oci_spec::runtime::Linux;
use wharf_sys::namespace::Namespaces;

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container.
    pub renamed: String,
}

/// Checks `linux.netDevices`; in the order of the names.
pub fn plan(linux: &Linux, ns: &NamespacePlan) -> Result<Vec<NetDevice>, ConfigError> {
    let mut out: Vec<NetDevice> = Vec::new();
    for (name, device) in linux.net_devices().iter().flatten() {
        let at = format!("linux.netDevices.{name}");
        valid(name, &at)?;
        let renamed = device.name().clone().filter(|n| !n.is_empty()).unwrap_or_else(|| name.clone());
        valid(&renamed, &format!("{at}.name"))?;
        if let Some(other) = out.iter().find(|o| o.renamed == renamed) {
            return Err(ConfigError::invalid(
                format!("{at}.name"),
                format!("{renamed:?} is the name of {:?} in the container already", other.name),
            ));
        }
        out.push(NetDevice { name: name.clone(), renamed });
    }
    if !out.is_empty() && !ns.private.contains(Namespaces::NET) {
        return Err(ConfigError::invalid(
            "linux.netDevices",
            "unable to move network devices without a private NET namespace",
        ));
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

/// The kernel's rule for names (dev_valid_name in net/core/dev.c).
fn valid(name: &str, at: &str) -> Result<(), ConfigError> {
    let bad = |c: char| c == '/' || c == ':' || c == '\0' || c.is_ascii_whitespace() || c == '\x0b';
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
        return Err(ConfigError::invalid(
            at,
            format!("{name:?} is not a name of a network interface: 1 to 15 bytes without /, : and blanks"),
        ));
    }
    Ok(())
}
