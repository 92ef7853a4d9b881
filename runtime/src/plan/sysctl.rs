//! Kernel settings, from `linux.sysctl`. Pure.

use super::namespaces::NamespacePlan;
use crate::config::ConfigError;
use oci_spec::runtime::Linux;
use wharf_sys::namespace::Namespaces;

/// Only settings that belong to one of the container's own namespaces: others would change the host.
pub fn plan(linux: &Linux, ns: &NamespacePlan) -> Result<Vec<(String, String)>, ConfigError> {
    const IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let mut out = Vec::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        let at = format!("linux.sysctl.{key}");
        // "net/ipv4/conf/eth0.100/x" and "net.ipv4.x" are both in use; the first separator decides (sysctl.d(5))
        let path = match key.find(['.', '/']) {
            Some(i) if key.as_bytes().get(i) == Some(&b'.') => key
                .chars()
                .map(|c| match c {
                    '.' => '/',
                    '/' => '.',
                    c => c,
                })
                .collect::<String>(),
            _ => key.clone(),
        };
        if path.split('/').any(|part| part.is_empty() || part == "..")
            || key.contains('\0')
            || value.contains('\0')
        {
            return Err(ConfigError::invalid(at, "not a name of a kernel setting"));
        }
        let dotted = path.replace('/', ".");
        let (needs, name) = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            (Namespaces::IPC, "ipc")
        } else if path.starts_with("net/") {
            (Namespaces::NET, "network")
        } else if dotted == "kernel.domainname" {
            (Namespaces::UTS, "uts")
        } else if dotted == "kernel.hostname" {
            return Err(ConfigError::invalid(
                at,
                "conflicts with the field hostname, which is to be used instead",
            ));
        } else if dotted.starts_with("user.") && ns.has_user() {
            (Namespaces::USER, "user")
        } else {
            return Err(ConfigError::invalid(
                at,
                format!("sysctl {key:?} is not in a separate kernel namespace"),
            ));
        };
        if !ns.private.contains(needs) {
            return Err(ConfigError::invalid(
                at,
                format!("needs a private {name} namespace, else it would change the host"),
            ));
        }
        out.push((path, value.clone()));
    }
    out.sort();
    Ok(out)
}
