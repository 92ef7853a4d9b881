//! containerd-shim-wharf-v2: keeps one container or pod alive while daemons come and go.
//!
//! A daemon starts it with `start` (see [`command`]), then calls `containerd.task.v3.Task` or `v2` on its
//! socket. It mounts the root filesystem, drives the OCI runtime, reaps, records exits before it announces
//! them, and carries every byte of the processes' streams itself.
//!
//! Threads: one reaps, one copies streams, one decides what an exit leads to, one publishes events, one
//! accepts, one reads requests for each connection; what takes long gets one for as long as it takes.

pub mod command;
pub mod error;
pub mod events;
pub mod io;
pub mod log;
pub mod mounts;
pub mod options;
pub mod reaper;
pub mod record;
pub mod runtime;
pub mod task;
pub mod ttrpc;
pub mod userns;
