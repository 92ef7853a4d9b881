//! The cgroup of a container, whichever runtime made it.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use wharf_cgroups::{Cgroup, CgroupError, Hierarchies, OomEvent};

use crate::io::{Io, Ready};
use crate::log;

/// The cgroup that a process is in. A container without one has no statistics.
pub(super) fn of(pid: u32) -> Option<Cgroup> {
    let found = Hierarchies::detect().and_then(|h| Cgroup::of_pid(&h, pid as i32));
    found.map_err(|e| log::warn(format_args!("cgroup of process {pid}: {e}"))).ok()
}

/// Waits until no process is in the cgroup. One that others share, as that of a container without a cgroup of its own,
/// is not waited for.
pub(super) fn await_empty(cgroup: &Cgroup, within: Duration) {
    let deadline = Instant::now() + within;
    let shared = std::process::id().try_into().unwrap_or(i32::MAX);
    while Instant::now() < deadline {
        // a cgroup that is gone is empty
        let left = cgroup.procs().unwrap_or_default();
        if left.is_empty() || left.contains(&shared) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Calls `on_oom` at each out-of-memory kill, until it says to stop or the cgroup is gone.
pub(super) fn watch_oom(
    cgroup: &Cgroup,
    io: &Io,
    mut on_oom: impl FnMut() -> Ready + Send + 'static,
) -> Result<(), CgroupError> {
    let mut watch = cgroup.oom_watch()?;
    let Ok(fd) = watch.as_fd().try_clone_to_owned() else { return Ok(()) };
    io.watch(fd, move || match watch.take() {
        Ok(OomEvent::Oom) => on_oom(),
        Ok(OomEvent::Nothing) => Ready::Again,
        Ok(OomEvent::Gone) | Err(_) => Ready::Stop,
    });
    Ok(())
}
