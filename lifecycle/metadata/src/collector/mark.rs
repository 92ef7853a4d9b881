//! Which records are in use.
//!
//! Roots: containers, images that have not expired, leases that have not expired with what they keep, ingests
//! without a lease until they count as abandoned, activations of mounts that a lease keeps or that are under way, what
//! the labels of sandboxes refer to, and whatever has the label `containerd.io/gc.root`.
//! Edges: a container's snapshot, a snapshot's parent, an image's target, an ingest's blob, and the labels
//! `containerd.io/gc.ref.…` (from holder to held), `containerd.io/gc.bref.…` (from held to holder) and
//! `containerd.io/gc.cond.…` (from holder to held, while the condition holds).

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use wharf_store::Read;
use wharf_vocab::{Labels, label_names};

use super::conditions::Conditional;
use crate::error::MetadataError;
use crate::leases::{CONTENT_KIND, IMAGES_KIND, INGESTS_KIND, SNAPSHOTS_KIND};
use crate::tables::{
    ACTIVATIONS, BLOBS, CONTAINER_HOLDS, IMAGES, INGESTS, LEASED, LEASES, SANDBOXES, SNAPSHOTS,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Content { namespace: String, digest: String },
    Snapshot { namespace: String, snapshotter: String, key: String },
    Image { namespace: String, name: String },
    Container { namespace: String, id: String },
    Ingest { namespace: String, reference: String },
    Lease { namespace: String, id: String },
    Mount { namespace: String, name: String },
}

pub(super) struct Marked {
    pub(super) live: HashSet<Node>,
    pub(super) next_expiry: Option<SystemTime>,
}

/// Everything that matters of all records, read once.
#[derive(Default)]
struct Graph {
    edges: HashMap<Node, Edges>,
    roots: Vec<Node>,
    /// Kept by a flat lease: they live, but only a snapshot's parents live through them.
    flat: Vec<Node>,
    /// Blobs and images that keep a snapshot under a condition.
    conditional: Vec<(Node, String, Conditional)>,
    next_expiry: Option<SystemTime>,
}

#[derive(Default)]
struct Edges {
    /// What the thing itself is made of: a snapshot's parent, an image's target.
    own: Vec<Node>,
    /// What its labels hold, or what holds on to it by label.
    labelled: Vec<Node>,
}

pub(super) fn mark(from: &impl Read, now: SystemTime) -> Result<Marked, MetadataError> {
    let mut graph = Graph::default();
    graph.read_leases(from, now)?;
    graph.read_images(from, now)?;
    graph.read_containers(from)?;
    graph.read_ingests(from, now)?;
    graph.read_content(from)?;
    graph.read_snapshots(from)?;
    graph.read_sandboxes(from)?;
    graph.read_activations(from)?;
    graph.resolve_conditions(from, now)?;
    Ok(Marked { live: graph.reachable(), next_expiry: graph.next_expiry })
}

impl Graph {
    /// Whether a label or time says that the thing is over; later expiries are remembered.
    fn is_over(&mut self, expires: Option<SystemTime>, now: SystemTime) -> bool {
        let Some(expires) = expires else { return false };
        if expires < now {
            return true;
        }
        self.next_expiry = Some(self.next_expiry.map_or(expires, |next| next.min(expires)));
        false
    }

    fn add(&mut self, node: Node, namespace: &str, labels: &Labels, own: Vec<Node>) {
        let mut labelled = Vec::new();
        for (name, value) in labels {
            if let Some(held) = held_by_label(namespace, name, value) {
                labelled.push(held);
            }
            if let Some(holder) = holder_by_label(namespace, name, value) {
                self.edges.entry(holder).or_default().labelled.push(node.clone());
            }
            if matches!(node, Node::Content { .. } | Node::Image { .. })
                && let Some(conditional) = Conditional::of(name, value)
            {
                self.conditional.push((node.clone(), namespace.to_owned(), conditional));
            }
        }
        let edges = self.edges.entry(node).or_default();
        edges.own.extend(own);
        edges.labelled.extend(labelled);
    }

    fn read_leases(&mut self, from: &impl Read, now: SystemTime) -> Result<(), MetadataError> {
        for (key, lease) in LEASES.list(from, &[])? {
            let namespace = &key[0];
            if self.is_over(expiry(&lease.labels), now) {
                continue;
            }
            self.roots.push(Node::Lease { namespace: namespace.clone(), id: lease.id.clone() });
            let flat = lease.labels.contains_key(label_names::GC_FLAT);
            for resource in LEASED.keys(from, &[namespace, &lease.id])? {
                let Some(node) = leased(namespace, &resource[2], &resource[3]) else { continue };
                if flat { self.flat.push(node) } else { self.roots.push(node) }
            }
        }
        Ok(())
    }

    fn read_images(&mut self, from: &impl Read, now: SystemTime) -> Result<(), MetadataError> {
        for (key, image) in IMAGES.list(from, &[])? {
            let namespace = &key[0];
            let node = Node::Image { namespace: namespace.clone(), name: image.name.clone() };
            if !self.is_over(expiry(&image.labels), now) {
                self.roots.push(node.clone());
            }
            let target =
                Node::Content { namespace: namespace.clone(), digest: image.target.digest.to_string() };
            self.add(node, namespace, &image.labels, vec![target]);
        }
        Ok(())
    }

    fn read_containers(&mut self, from: &impl Read) -> Result<(), MetadataError> {
        for (key, container) in CONTAINER_HOLDS.list(from, &[])? {
            let namespace = &key[0];
            let node = Node::Container { namespace: namespace.clone(), id: container.id.clone() };
            self.roots.push(node.clone());
            let snapshot = Node::Snapshot {
                namespace: namespace.clone(),
                snapshotter: container.snapshotter.clone(),
                key: container.snapshot_key.clone(),
            };
            let own = if container.snapshotter.is_empty() { Vec::new() } else { vec![snapshot] };
            self.add(node, namespace, &container.labels, own);
        }
        Ok(())
    }

    fn read_ingests(&mut self, from: &impl Read, now: SystemTime) -> Result<(), MetadataError> {
        for (key, ingest) in INGESTS.list(from, &[])? {
            let namespace = &key[0];
            let node = Node::Ingest { namespace: namespace.clone(), reference: ingest.reference.clone() };
            if ingest.expires.is_some() && !self.is_over(ingest.expires, now) {
                self.roots.push(node.clone());
            }
            let shared = ingest
                .shared
                .map(|digest| Node::Content { namespace: namespace.clone(), digest: digest.to_string() });
            self.add(node, namespace, &Labels::new(), shared.into_iter().collect());
        }
        Ok(())
    }

    fn read_content(&mut self, from: &impl Read) -> Result<(), MetadataError> {
        for (key, blob) in BLOBS.list(from, &[])? {
            let node = Node::Content { namespace: key[0].clone(), digest: key[1].clone() };
            if is_root(&blob.labels) {
                self.roots.push(node.clone());
            }
            self.add(node, &key[0], &blob.labels, Vec::new());
        }
        Ok(())
    }

    fn read_snapshots(&mut self, from: &impl Read) -> Result<(), MetadataError> {
        for (key, record) in SNAPSHOTS.list(from, &[])? {
            let [namespace, snapshotter, key] = [&key[0], &key[1], &key[2]].map(String::clone);
            let named = |key: String| Node::Snapshot {
                namespace: namespace.clone(),
                snapshotter: snapshotter.clone(),
                key,
            };
            let node = named(key);
            if is_root(&record.labels) {
                self.roots.push(node.clone());
            }
            let parent = (!record.parent.is_empty()).then(|| named(record.parent.clone()));
            self.add(node, &namespace, &record.labels, parent.into_iter().collect());
        }
        Ok(())
    }

    fn read_sandboxes(&mut self, from: &impl Read) -> Result<(), MetadataError> {
        for (key, sandbox) in SANDBOXES.list(from, &[])? {
            let held = sandbox.labels.iter().filter_map(|(name, value)| held_by_label(&key[0], name, value));
            self.roots.extend(held);
        }
        Ok(())
    }

    /// An activation is kept by its lease and by what its labels name, and by nothing else once it is finished.
    fn read_activations(&mut self, from: &impl Read) -> Result<(), MetadataError> {
        let all = ACTIVATIONS.list(from, &[])?;
        let leases: HashSet<_> = match all.as_slice() {
            [] => return Ok(()),
            _ => self.roots.iter().filter(|node| matches!(node, Node::Lease { .. })).cloned().collect(),
        };
        for (key, record) in all {
            let namespace = &key[0];
            let node = Node::Mount { namespace: namespace.clone(), name: key[1].clone() };
            let lease = record.lease.map(|id| Node::Lease { namespace: namespace.clone(), id });
            if !record.is_finished || lease.is_some_and(|lease| leases.contains(&lease)) {
                self.roots.push(node.clone());
            }
            for (name, value) in &record.labels {
                if let Some(holder) = holder_by_label(namespace, name, value) {
                    self.edges.entry(holder).or_default().labelled.push(node.clone());
                }
            }
        }
        Ok(())
    }

    fn resolve_conditions(&mut self, from: &impl Read, now: SystemTime) -> Result<(), MetadataError> {
        for (holder, namespace, conditional) in std::mem::take(&mut self.conditional) {
            let Conditional { snapshotter, key, .. } = &conditional;
            let Some(record) = SNAPSHOTS.get(from, &[&namespace, snapshotter, key])? else { continue };
            let Some(until) = conditional.holds(&record.labels, now) else { continue };
            self.is_over(until, now);
            let held = Node::Snapshot { namespace, snapshotter: snapshotter.clone(), key: key.clone() };
            self.edges.entry(holder).or_default().labelled.push(held);
        }
        Ok(())
    }

    fn reachable(&self) -> HashSet<Node> {
        let mut live = HashSet::new();
        let mut rest: Vec<&Node> = self.roots.iter().collect();
        while let Some(node) = rest.pop() {
            if !live.insert(node.clone()) {
                continue;
            }
            if let Some(edges) = self.edges.get(node) {
                rest.extend(edges.own.iter().chain(&edges.labelled));
            }
        }
        let mut rest: Vec<&Node> = self.flat.iter().collect();
        while let Some(node) = rest.pop() {
            if live.insert(node.clone())
                && let Some(edges) = self.edges.get(node)
            {
                rest.extend(&edges.own);
            }
        }
        live
    }
}

fn is_root(labels: &Labels) -> bool {
    labels.keys().any(|name| name.starts_with(label_names::GC_ROOT))
}

/// When a label says that the thing is over. A time that cannot be read never comes.
pub(crate) fn expiry(labels: &Labels) -> Option<SystemTime> {
    let text = labels.get(label_names::GC_EXPIRE)?;
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

fn leased(namespace: &str, kind: &str, id: &str) -> Option<Node> {
    let namespace = namespace.to_owned();
    let id = id.to_owned();
    match kind {
        CONTENT_KIND => Some(Node::Content { namespace, digest: id }),
        IMAGES_KIND => Some(Node::Image { namespace, name: id }),
        INGESTS_KIND => Some(Node::Ingest { namespace, reference: id }),
        _ => {
            let snapshotter = kind.strip_prefix(SNAPSHOTS_KIND)?.strip_prefix('/')?.to_owned();
            Some(Node::Snapshot { namespace, snapshotter, key: id })
        }
    }
}

/// `containerd.io/gc.ref.<kind>`: the labelled thing keeps another.
fn held_by_label(namespace: &str, name: &str, value: &str) -> Option<Node> {
    named_thing(namespace, name.strip_prefix("containerd.io/gc.ref.")?, value)
}

/// `containerd.io/gc.bref.<kind>`: the labelled thing is kept by another.
fn holder_by_label(namespace: &str, name: &str, value: &str) -> Option<Node> {
    let kind = name.strip_prefix("containerd.io/gc.bref.")?;
    if is_or_begins(kind, "container") {
        return Some(Node::Container { namespace: namespace.to_owned(), id: value.to_owned() });
    }
    named_thing(namespace, kind, value)
}

/// Labels may carry a name of their own after a dot or a slash: `content.config`, `snapshot.overlayfs/rw`.
fn named_thing(namespace: &str, kind: &str, value: &str) -> Option<Node> {
    let (namespace, value) = (namespace.to_owned(), value.to_owned());
    if let Some(snapshotter) = kind.strip_prefix("snapshot.") {
        let snapshotter = snapshotter.split('/').next().unwrap_or_default().to_owned();
        return Some(Node::Snapshot { namespace, snapshotter, key: value });
    }
    if is_or_begins(kind, "content") {
        return Some(Node::Content { namespace, digest: value });
    }
    if is_or_begins(kind, "mount") {
        return Some(Node::Mount { namespace, name: value });
    }
    is_or_begins(kind, "image").then_some(Node::Image { namespace, name: value })
}

fn is_or_begins(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
}
