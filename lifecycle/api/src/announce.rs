//! What happened to records, as containerd's events.

use std::time::SystemTime;

use lifecycle_events::Envelope;
use lifecycle_metadata::{Change, Event};
use prost_types::{Any, Timestamp};
use wharf_containerd::containerd::events;
use wharf_containerd::containerd::services::images::v1 as images;
use wharf_containerd::to_any;

use crate::wire;

/// The event under its topic.
pub(crate) fn envelope(event: Event) -> Envelope {
    let namespace = event.namespace;
    let (topic, message) = message(event.change, &namespace);
    let timestamp =
        wire::timestamp(event.at.max(SystemTime::UNIX_EPOCH)).unwrap_or(Timestamp { seconds: 1, nanos: 0 });
    Envelope { timestamp, namespace, topic: topic.into(), event: message }
}

fn message(change: Change, namespace: &str) -> (&'static str, Any) {
    let name = namespace.to_owned();
    match change {
        Change::NamespaceCreated { labels } => {
            let event = events::NamespaceCreate { name, labels: wire::label_map(labels) };
            ("/namespaces/create", to_any("containerd.events.NamespaceCreate", &event))
        }
        Change::NamespaceUpdated { labels } => {
            let event = events::NamespaceUpdate { name, labels: wire::label_map(labels) };
            ("/namespaces/update", to_any("containerd.events.NamespaceUpdate", &event))
        }
        Change::NamespaceDeleted => {
            let event = events::NamespaceDelete { name };
            ("/namespaces/delete", to_any("containerd.events.NamespaceDelete", &event))
        }
        Change::ContainerCreated { id, image, runtime } => {
            let options = runtime.options.map(wire::any);
            let runtime = events::container_create::Runtime { name: runtime.name, options };
            let event = events::ContainerCreate { id, image, runtime: Some(runtime) };
            ("/containers/create", to_any("containerd.events.ContainerCreate", &event))
        }
        Change::ContainerUpdated { id, image, labels, snapshot_key } => {
            let labels = wire::label_map(labels);
            let event = events::ContainerUpdate { id, image, labels, snapshot_key };
            ("/containers/update", to_any("containerd.events.ContainerUpdate", &event))
        }
        Change::ContainerDeleted { id } => {
            let event = events::ContainerDelete { id };
            ("/containers/delete", to_any("containerd.events.ContainerDelete", &event))
        }
        Change::ImageCreated { name, labels } => {
            let event = images::ImageCreate { name, labels: wire::label_map(labels) };
            ("/images/create", to_any("containerd.services.images.v1.ImageCreate", &event))
        }
        Change::ImageUpdated { name, labels } => {
            let event = images::ImageUpdate { name, labels: wire::label_map(labels) };
            ("/images/update", to_any("containerd.services.images.v1.ImageUpdate", &event))
        }
        Change::ImageDeleted { name } => {
            let event = images::ImageDelete { name };
            ("/images/delete", to_any("containerd.services.images.v1.ImageDelete", &event))
        }
        Change::ContentCreated { digest, size } => {
            let size = wire::signed(size);
            let event = events::ContentCreate { digest, size, media_type: String::new() };
            ("/content/create", to_any("containerd.events.ContentCreate", &event))
        }
        Change::ContentDeleted { digest } => {
            let event = events::ContentDelete { digest };
            ("/content/delete", to_any("containerd.events.ContentDelete", &event))
        }
        Change::SnapshotPrepared { snapshotter, key, parent } => {
            let event = events::SnapshotPrepare { key, parent, snapshotter };
            ("/snapshot/prepare", to_any("containerd.events.SnapshotPrepare", &event))
        }
        Change::SnapshotCommitted { snapshotter, key, name } => {
            let event = events::SnapshotCommit { key, name, snapshotter };
            ("/snapshot/commit", to_any("containerd.events.SnapshotCommit", &event))
        }
        Change::SnapshotRemoved { snapshotter, key } => {
            let event = events::SnapshotRemove { key, snapshotter };
            ("/snapshot/remove", to_any("containerd.events.SnapshotRemove", &event))
        }
    }
}
