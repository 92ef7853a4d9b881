//! cgroups v1, hybrid and v2: limits, membership, freezing, statistics.
//!
//! The life of a container's cgroup: [`Hierarchies::detect`] once per process, [`Plan::new`] decides the directories,
//! [`Cgroup::create`] makes them, [`Cgroup::joiner`] lets the container's first process put itself there,
//! [`Cgroup::apply`] and [`Cgroup::apply_devices`] limit it, [`Cgroup::paths`] goes into the state file and
//! [`Cgroup::from_paths`] comes back from it, [`Cgroup::delete`] removes it.
//!
//! Everything is synchronous. Source of the control files' forms: the kernel's Documentation/admin-guide/cgroup-v1
//! and cgroup-v2.rst.

mod cgroup;
pub mod devices;
mod error;
mod file;
mod freeze;
mod hierarchy;
mod kill;
mod lexical;
pub mod limits;
mod oom;
mod plan;
pub mod stats;
pub mod systemd;

pub use cgroup::{Cgroup, Joiner, Making};
pub use error::CgroupError;
pub use hierarchy::{DEFAULT_ROOT, Hierarchies, Mode};
pub use limits::check;
pub use oom::{OomEvent, OomWatch};
pub use plan::{Driver, Paths, Plan, SystemdName};
pub use stats::Stats;
