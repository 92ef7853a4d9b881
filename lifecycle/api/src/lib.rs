//! containerd's gRPC services on the lifecycle domain: decode, call, map the error, encode.

// storage: namespaces, content, images, snapshots, diff, leases, containers
mod announce;
mod containers;
mod content;
mod diff;
mod images;
mod leases;
mod mounts;
mod namespaces;
mod snapshots;
mod storage;
mod streaming;
mod transfer;
mod wire;

pub use storage::{OpenError, Storage, StoragePolicy};

// running: events, tasks, introspection, version, assembly
mod authority;
mod debug;
mod events;
mod identity;
mod introspection;
mod listen;
mod metrics;
mod monitor;
mod pages;
mod reflection;
mod request;
mod restart;
mod sandboxes;
mod server;
mod shim_sockets;
mod status;
mod tasks;
mod tcp;
mod ttrpc;
mod version;
mod wording;

pub use debug::threads;
pub use listen::{ListenError, SocketConfig};
pub use metrics::Adopt;
pub use monitor::{MetricsConfig, MonitorError};
pub use request::MessageLimits;
pub use server::{ServeError, Settings, serve};
pub use tcp::{TcpConfig, TcpError};
pub use version::{REVISION, VERSION};
