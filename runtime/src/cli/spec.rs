//! `spec`: a config.json to start from.

use super::args::SpecArgs;
use super::{Failure, Outcome};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use wharf_cgroups::{Hierarchies, Mode};

const TEMPLATE: &str = include_str!("spec/config.json");

pub fn spec(args: SpecArgs) -> Outcome {
    let dir = args.bundle.unwrap_or_else(|| ".".into());
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_str(TEMPLATE)?;
    if !matches!(Hierarchies::detect().map(|h| h.mode()), Ok(Mode::Unified)) {
        without_cgroup_namespace(&mut config);
    }
    if args.rootless {
        rootless(&mut config);
    }
    let text = serde_json::to_string_pretty(&config)?;
    let mut file = match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::new(format!("File {} exists. Remove it first", path.display())));
        }
        Err(e) => return Err(Failure::new(format!("creating {}: {e}", path.display()))),
    };
    file.write_all(text.as_bytes()).map_err(|e| Failure::new(format!("writing {}: {e}", path.display())))?;
    Ok(0)
}

/// As runc: on version 1 the view of a cgroup namespace differs from the paths that programs there read in mounts.
fn without_cgroup_namespace(config: &mut serde_json::Value) {
    if let Some(list) = config["linux"]["namespaces"].as_array_mut() {
        list.retain(|ns| ns["type"] != "cgroup");
    }
}

/// A user namespace in which the caller is root, and nothing that needs more.
fn rootless(config: &mut serde_json::Value) {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let linux = &mut config["linux"];
    linux["uidMappings"] = serde_json::json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = serde_json::json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    if let Some(map) = linux.as_object_mut() {
        map.remove("resources");
    }
    if let Some(list) = linux["namespaces"].as_array_mut() {
        list.retain(|ns| ns["type"] != "network");
        list.push(serde_json::json!({"type": "user"}));
    }
    if let Some(mounts) = config["mounts"].as_array_mut() {
        for mount in mounts.iter_mut() {
            if mount["destination"] == "/sys" {
                // a sysfs of its own needs a network namespace of its own
                *mount = serde_json::json!({"destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
            }
            if let Some(options) = mount.get_mut("options").and_then(|o| o.as_array_mut()) {
                options
                    .retain(|o| !o.as_str().is_some_and(|o| o.starts_with("gid=") || o.starts_with("uid=")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::plan::plan;

    #[test]
    fn both_templates_can_be_planned() {
        let host = Host { apparmor: false, selinux: false };
        let mut config: serde_json::Value = serde_json::from_str(TEMPLATE).unwrap();
        let spec = serde_json::from_value(config.clone()).unwrap();
        plan(&spec, std::path::Path::new("/b"), &host).unwrap();
        rootless(&mut config);
        without_cgroup_namespace(&mut config);
        assert!(!config.to_string().contains("null"), "{config}");
        let spec = serde_json::from_value(config).unwrap();
        let namespaces = plan(&spec, std::path::Path::new("/b"), &host).unwrap().namespaces;
        assert!(namespaces.has_user() && !namespaces.unshare_cgroup);
    }
}
