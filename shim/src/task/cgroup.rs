//! The cgroup of a container, whichever runtime made it.

use std::os::fd::AsFd;

use wharf_cgroups::{Cgroup, CgroupError, Hierarchies, OomEvent};

use crate::io::{Io, Ready};
use crate::log;

/// The cgroup that a process is in. A container without one has no statistics.
pub(super) fn of(pid: u32) -> Option<Cgroup> {
    let found = Hierarchies::detect().and_then(|h| Cgroup::of_pid(&h, pid as i32));
    found.map_err(|e| log::warn(format_args!("cgroup of process {pid}: {e}"))).ok()
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
