//! How long a shim may take for what. Only `Wait` is unbounded.

use std::time::Duration;

/// Questions that a shim answers from memory.
pub(crate) const STATE: Duration = Duration::from_secs(2);
/// Kill, exec registration, resizing, closing stdin, listing processes.
pub(crate) const QUICK: Duration = Duration::from_secs(10);
/// Pause, resume, update: kernel work on cgroups, possibly an OCI runtime to start.
pub(crate) const CHANGE: Duration = Duration::from_secs(30);
/// Create and start: mounts, hooks, an OCI runtime on a busy machine.
pub(crate) const CREATE: Duration = Duration::from_secs(120);
/// Delete: unmounting, removing cgroups, draining output.
pub(crate) const DELETE: Duration = Duration::from_secs(60);
/// Metrics of one container.
pub(crate) const STATS: Duration = Duration::from_secs(3);
/// Writing a checkpoint.
pub(crate) const CHECKPOINT: Duration = Duration::from_secs(600);
/// A last word to a shim that is no longer needed.
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(3);
/// `shim start`, as a process.
pub(crate) const BOOTSTRAP: Duration = Duration::from_secs(60);
/// `shim delete`, as a process.
pub(crate) const CLEAN_UP: Duration = Duration::from_secs(30);
/// `shim -v` and `shim -info`, as a process.
pub(crate) const ASK: Duration = Duration::from_secs(10);
/// What one shim may take at start-up before the daemon serves without its answer.
pub(crate) const RECONNECT: Duration = Duration::from_millis(750);
