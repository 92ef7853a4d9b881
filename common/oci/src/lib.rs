//! OCI runtime specs as Docker builds them.
//!
//! [`build`] is a pure function from a [`Request`] and the facts of a [`Host`] to a spec that has the effect of
//! dockerd's (moby's daemon/oci_linux.go and daemon/pkg/oci are the source of the defaults). What has to be looked
//! up comes ready in the request: [`devices::resolve`] finds device numbers, [`user::resolve`] ids.

pub mod caps;
pub mod devices;
pub mod env;
mod error;
mod host;
pub mod mounts;
pub mod paths;
mod request;
pub mod resources;
pub mod seccomp;
mod spec;
pub mod user;

pub use error::SpecError;
pub use host::Host;
pub use mounts::{Mount, Propagation, ReadOnly};
pub use request::{IdMaps, Join, Namespaces, Request, SeccompChoice, Ulimit};
pub use resources::Resources;
pub use spec::{Exec, build, exec_process};
