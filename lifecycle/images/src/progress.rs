//! What a transfer tells of itself while it goes on.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use wharf_registry::Descriptor;

/// Between two reports of how far one blob has come.
const INTERVAL: Duration = Duration::from_millis(100);

/// One report, in containerd's terms (`containerd.types.transfer.Progress`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    /// `downloading`, `complete`, `saved`, … or a line for people.
    pub event: String,
    pub name: String,
    /// Names of what the subject is part of.
    pub parents: Vec<String>,
    /// Bytes so far, of `total`.
    pub progress: u64,
    pub total: u64,
    pub descriptor: Option<Descriptor>,
}

/// Where reports go; nowhere by default. They never hold the transfer up: when nobody takes them they are dropped.
#[derive(Clone, Default)]
pub struct Progress(Option<mpsc::Sender<Update>>);

impl Progress {
    pub fn new(to: mpsc::Sender<Update>) -> Self {
        Progress(Some(to))
    }

    /// A line without a subject.
    pub fn say(&self, event: impl Into<String>) {
        self.send(Update { event: event.into(), ..Update::default() });
    }

    /// About an image by its name.
    pub fn image(&self, event: &str, name: &str, target: &Descriptor) {
        self.send(Update {
            event: event.into(),
            name: name.into(),
            descriptor: Some(target.clone()),
            ..Update::default()
        });
    }

    pub(crate) fn blob(&self, event: &str, subject: &Subject, progress: u64) {
        self.send(Update {
            event: event.into(),
            name: subject.name.clone(),
            parents: subject.parents.clone(),
            progress,
            total: subject.descriptor.size,
            descriptor: Some(subject.descriptor.clone()),
        });
    }

    fn send(&self, update: Update) {
        if let Some(to) = &self.0 {
            let _ = to.try_send(update);
        }
    }
}

/// A blob on its way, and what it is part of.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub descriptor: Descriptor,
    pub name: String,
    pub parents: Vec<String>,
}

impl Subject {
    pub fn new(descriptor: &Descriptor, parents: &[String]) -> Self {
        Subject { descriptor: descriptor.clone(), name: ingest_name(descriptor), parents: parents.to_vec() }
    }
}

/// The name that containerd's clients give to the ingest of a blob.
pub(crate) fn ingest_name(descriptor: &Descriptor) -> String {
    let kind = descriptor.media_type.as_str();
    let prefix = if wharf_registry::media_types::is_index(kind) {
        "index"
    } else if wharf_registry::media_types::is_manifest(kind) {
        "manifest"
    } else if kind.contains("config") || kind == wharf_registry::media_types::DOCKER_CONFIG {
        "config"
    } else if kind.contains("layer") || kind.contains("rootfs.diff") {
        "layer"
    } else if kind.contains("in-toto") {
        "attestation"
    } else {
        "unknown"
    };
    format!("{prefix}-{}", descriptor.digest)
}

/// Lets a report through now and then.
pub(crate) struct Pace(Option<Instant>);

impl Pace {
    pub fn new() -> Self {
        Pace(None)
    }

    pub fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= INTERVAL);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}
