//! `features`: what this runtime can do (runtime-spec, features.md).

use super::Outcome;
use crate::plan::{capabilities, options};

pub fn features() -> Outcome {
    let capabilities: Vec<_> =
        capabilities::ORDER.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    let host = crate::host::Host::detect();
    let features = serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options::KNOWN,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true },
            "seccomp": crate::seccomp::features(),
            "apparmor": { "enabled": host.apparmor },
            "selinux": { "enabled": host.selinux },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": true } }
        },
        "annotations": { "io.github.wharf.runw.version": env!("CARGO_PKG_VERSION") }
    });
    println!("{}", serde_json::to_string_pretty(&features)?);
    Ok(0)
}
