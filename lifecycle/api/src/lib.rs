//! containerd's gRPC services on the lifecycle domain: decode, call, map the error, encode.

// storage: namespaces, content, images, snapshots, diff, leases, containers
mod announce;
mod containers;
mod content;
mod diff;
mod images;
mod leases;
mod namespaces;
mod snapshots;
mod storage;
mod streaming;
mod transfer;
mod wire;

pub use storage::{OpenError, Storage};

// running: events, tasks, introspection, version, assembly
mod events;
mod identity;
mod introspection;
mod listen;
mod reflection;
mod request;
mod sandboxes;
mod server;
mod status;
mod tasks;
mod ttrpc;
mod version;

pub use listen::{ListenError, SocketConfig};
pub use server::{ServeError, Settings, serve};
pub use version::{REVISION, VERSION};
