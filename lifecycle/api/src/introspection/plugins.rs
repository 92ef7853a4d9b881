//! The parts of this daemon under the names containerd gives its plugins.

use std::path::Path;

use lifecycle_metadata::Schedule;
use wharf_containerd::containerd::services::introspection::v1::Plugin;
use wharf_containerd::containerd::types::Platform as WirePlatform;
use wharf_vocab::Platform;

use crate::storage::StoragePolicy;

const GRPC: &str = "io.containerd.grpc.v1";
const SERVICE: &str = "io.containerd.service.v1";
const MOUNT_MANAGER: &str = "io.containerd.mount-manager.v1";
const RUNTIME: &str = "io.containerd.runtime.v2";

/// The gRPC services, each with the domain service behind it.
const SERVICES: [(&str, Option<&str>); 17] = [
    ("containers", Some("containers-service")),
    ("content", Some("content-service")),
    ("diff", Some("diff-service")),
    ("events", None),
    ("healthcheck", None),
    ("images", Some("images-service")),
    ("introspection", Some("introspection-service")),
    ("leases", Some("leases-service")),
    ("mounts", None),
    ("namespaces", Some("namespaces-service")),
    ("sandbox-controllers", None),
    ("sandboxes", None),
    ("snapshots", Some("snapshots-service")),
    ("streaming", None),
    ("tasks", Some("tasks-service")),
    ("transfer", None),
    ("version", None),
];

/// Whether a plugin answers questions about runtimes.
pub(super) fn is_task_runtime(kind: &str, id: &str) -> bool {
    kind == RUNTIME && id == "task"
}

/// All parts, in the order in which they depend on each other.
pub(super) fn list(root: &Path, policy: &StoragePolicy) -> Vec<Plugin> {
    let mut plugins = vec![
        exporting(plugin("io.containerd.content.v1", "content", &[]), "root", &root.join("content")),
        on_host(exporting(
            plugin("io.containerd.snapshotter.v1", "overlayfs", &[]),
            "root",
            &root.join("snapshots/overlay"),
        )),
        on_host(exporting(
            plugin("io.containerd.snapshotter.v1", "native", &[]),
            "root",
            &root.join("snapshots/native"),
        )),
        plugin(
            "io.containerd.metadata.v1",
            "bolt",
            &["io.containerd.content.v1", "io.containerd.snapshotter.v1"],
        ),
        scheduler(policy),
        on_host(plugin("io.containerd.mount-handler.v1", "erofs", &[])),
        plugin(MOUNT_MANAGER, "bolt", &["io.containerd.metadata.v1", "io.containerd.mount-handler.v1"]),
        plugin("io.containerd.event.v1", "exchange", &[]),
        on_host(plugin("io.containerd.differ.v1", "walking", &["io.containerd.metadata.v1"])),
        plugin("io.containerd.shim.v1", "manager", &["io.containerd.event.v1", "io.containerd.metadata.v1"]),
        on_host(exporting(
            plugin(RUNTIME, "task", &["io.containerd.shim.v1", MOUNT_MANAGER]),
            "log-uri-schemes",
            // as the shims here take them
            Path::new("fifo,binary,file"),
        )),
        on_host(plugin("io.containerd.monitor.task.v1", "cgroups", &["io.containerd.event.v1"])),
        plugin("io.containerd.lease.v1", "manager", &["io.containerd.metadata.v1"]),
        plugin("io.containerd.sandbox.store.v1", "local", &["io.containerd.metadata.v1"]),
        plugin("io.containerd.sandbox.controller.v1", "shim", &["io.containerd.shim.v1"]),
        plugin("io.containerd.streaming.v1", "manager", &["io.containerd.metadata.v1"]),
        plugin(
            "io.containerd.transfer.v1",
            "local",
            &["io.containerd.lease.v1", "io.containerd.metadata.v1"],
        ),
        plugin("io.containerd.ttrpc.v1", "events", &["io.containerd.event.v1"]),
    ];
    let mut restart = plugin("io.containerd.monitor.container.v1", "restart", &[SERVICE]);
    restart.capabilities.extend(["no", "always", "on-failure", "unless-stopped"].map(str::to_owned));
    plugins.push(restart);
    for (_, service) in SERVICES {
        if let Some(service) = service {
            plugins.push(plugin(SERVICE, service, &["io.containerd.metadata.v1"]));
        }
    }
    for (id, service) in SERVICES {
        let requires: &[&str] = match service {
            Some(_) => &[SERVICE],
            None if id == "mounts" => &[MOUNT_MANAGER],
            None => &[],
        };
        plugins.push(plugin(GRPC, id, requires));
    }
    plugins
}

/// With what it goes by, as containerd's has it.
fn scheduler(policy: &StoragePolicy) -> Plugin {
    let mut plugin = plugin("io.containerd.gc.v1", "scheduler", &["io.containerd.metadata.v1"]);
    let Schedule { pause_threshold, deletion_threshold, mutation_threshold, delay } = policy.schedule;
    let exports = [
        ("PauseThreshold", pause_threshold.to_string()),
        ("DeletionThreshold", deletion_threshold.to_string()),
        ("MutationThreshold", mutation_threshold.to_string()),
        ("ScheduleDelay", if delay.is_zero() { "0s".to_owned() } else { format!("{delay:?}") }),
    ];
    plugin.exports.extend(exports.map(|(name, value)| (name.to_owned(), value)));
    plugin
}

fn plugin(kind: &str, id: &str, requires: &[&str]) -> Plugin {
    Plugin {
        r#type: kind.into(),
        id: id.into(),
        requires: requires.iter().map(|r| r.to_string()).collect(),
        ..Plugin::default()
    }
}

/// A part that depends on the machine's platform.
fn on_host(mut plugin: Plugin) -> Plugin {
    let Platform { os, architecture, variant, .. } = Platform::host();
    plugin.platforms.push(WirePlatform { os, architecture, variant, ..WirePlatform::default() });
    plugin
}

fn exporting(mut plugin: Plugin, name: &str, path: &Path) -> Plugin {
    plugin.exports.insert(name.into(), path.to_string_lossy().into_owned());
    plugin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_find_the_parts_they_look_for() {
        let plugins = list(Path::new("/r"), &StoragePolicy::default());
        let has = |kind: &str, id: &str| plugins.iter().find(|p| p.r#type == kind && p.id == id);
        let snapshotter = has("io.containerd.snapshotter.v1", "overlayfs").expect("snapshotter");
        assert_eq!(snapshotter.platforms[0].os, "linux");
        assert_eq!(snapshotter.exports["root"], "/r/snapshots/overlay");
        assert!(has(RUNTIME, "task").is_some_and(|p| !p.platforms.is_empty()));
        assert!(has(GRPC, "tasks").is_some());
        assert!(has(GRPC, "mounts").is_some_and(|p| p.requires == [MOUNT_MANAGER]));
        assert!(has(MOUNT_MANAGER, "bolt").is_some());
        let scheduler = has("io.containerd.gc.v1", "scheduler").expect("scheduler");
        assert_eq!(scheduler.exports["PauseThreshold"], "0.02");
        assert!(plugins.iter().all(|p| p.init_err.is_none()));
    }
}
