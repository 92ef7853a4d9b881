//! runw: the OCI runtime.
//!
//! [`plan`] turns config.json into data, with every refusal; [`container`] holds the operations; [`init`] is the
//! container's first process, which talks to its maker through [`handshake`]; [`rootfs`] and [`process`] are what init
//! does. [`cli`] speaks runc's command line.

mod cgroup_mount;
pub mod cli;
pub mod config;
mod console;
pub mod container;
mod criu;
pub mod handshake;
mod hooks;
pub mod host;
mod idmap;
mod init;
mod log;
mod net_devices;
mod notify;
mod pid;
pub mod plan;
mod process;
mod rdt;
mod relay;
mod rootfs;
pub mod rootless;
mod seccomp;
mod self_exe;
pub mod signals;
mod sources;
pub mod spec;
pub mod state;
mod timestamp;

pub use process::home::find as home_in;
