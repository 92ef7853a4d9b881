//! Tasks: starting, finding and talking to shims.
//!
//! One shim serves each container. What it reports is kept in memory, so that listing never waits for a
//! container; every call to a shim has a time limit except waiting for an exit. A daemon that comes back finds
//! its shims through the bundles on disk ([`Tasks::recover`]).

mod bootstrap;
mod bundle;
mod client;
mod create;
mod delete;
mod endpoint;
mod error;
mod limits;
mod observe;
mod observed;
mod operations;
mod origin;
mod process;
mod recovery;
mod runtime;
mod sandbox;
mod shimlog;
mod supervise;
mod task;
mod tasks;

pub use bootstrap::{BootstrapError, Daemon};
pub use bundle::BundleError;
pub use client::CallError;
pub use create::CreateTask;
pub use endpoint::{Endpoint, Protocol};
pub use error::{LookupError, TaskError};
pub use operations::{ExecTask, Metric};
pub use origin::{Origin, Staging};
pub use process::{Exit, Phase, ProcessState, Stdio};
pub use recovery::{RecoverError, Recovered};
pub use runtime::{RuntimeError, Runtimes};
pub use sandbox::{CreateSandbox, StartedSandbox};
pub use tasks::{Config, Container, Containers, Tasks};

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
