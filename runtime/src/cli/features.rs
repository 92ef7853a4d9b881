//! `features`: what this runtime can do (runtime-spec, features.md).

use super::Outcome;
use crate::plan::{capabilities, options};

pub fn features() -> Outcome {
    let capabilities: Vec<_> =
        capabilities::ORDER.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    let host = crate::host::Host::detect();
    let features = serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options::KNOWN,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": crate::seccomp::features(),
            "apparmor": { "enabled": host.apparmor },
            "selinux": { "enabled": host.selinux },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": [
                    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]
            },
            "netDevices": { "enabled": true },
            "mountExtensions": { "idmap": { "enabled": true } }
        },
        "potentiallyUnsafeConfigAnnotations": ["bundle", "org.systemd.property."],
        "annotations": { "io.github.wharf.runw.version": env!("CARGO_PKG_VERSION") }
    });
    println!("{}", serde_json::to_string_pretty(&features)?);
    Ok(0)
}
