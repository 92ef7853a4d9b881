//! The engine's only client of the lifecycle daemon, over containerd's gRPC API.
//!
//! A [`Backend`] is cheap to clone. It keeps one HTTP/2 connection to the daemon's unix socket and makes it again,
//! forever, when it breaks. A call made meanwhile waits at most [`BackendConfig::patience`] and then fails with
//! `Kind::Unavailable`. Calls that only read are repeated once when the connection breaks under them; calls that
//! change something are not, since nobody can tell whether the daemon had done them.
//!
//! The namespace is the backend's; a lease is an argument of every call that creates content or snapshots, so that
//! nothing can be created that the collector may take away before it is referenced.

mod containers;
mod content;
mod convert;
mod daemon;
mod diff;
mod error;
mod events;
mod images;
mod leases;
mod link;
mod snapshots;
mod tasks;
mod types;

pub use containers::{ContainerRecord, RuntimeOptions};
pub use content::{ContentInfo, ContentReader, ContentWriter, Ingest};
pub use daemon::DaemonVersion;
pub use error::BackendError;
pub use events::{EventStream, LifecycleEvent, TaskEvent};
pub use images::Image;
pub use leases::{Lease, ResourceKind};
pub use link::{Backend, BackendConfig};
pub use snapshots::{SnapshotInfo, SnapshotKind, SnapshotUsage};
pub use tasks::{ExecSpec, Exit, ProcessInfo, ProcessStatus, TaskSpec};
pub use types::{Descriptor, Labels, Mount};
