//! The part that create and exec share: priorities, privileges, working directory, labels, and finding the program.

use super::{InitError, named};
use crate::handshake::{Channel, Step};
use crate::plan::process::ProcessPlan;
use crate::process::program::{Program, close_on_exec};
use crate::process::{identity, limits};
use crate::rootfs::procfs::Proc;
use crate::rootfs::resolve::Root;
use crate::seccomp::Program as Filter;
use rustix::fs::Mode;
use std::ffi::CString;
use std::os::fd::AsFd;

/// The part that create and exec share: priorities, privileges, working directory, and finding the program. `kept` is
/// the number of descriptors after the standard streams that the program gets.
pub fn settle(
    process: &ProcessPlan,
    root: &Root,
    user_namespace: bool,
    seccomp: Option<&Filter>,
    kept: u32,
    channel: &mut Channel,
) -> Result<Program, InitError> {
    if let Some(attr) = process.scheduler {
        match wharf_sys::sched::set_scheduler(attr) {
            // SCHED_DEADLINE takes all CPUs or none
            Err(e) if e.raw_os_error() == Some(1) && process.limited_cpus => {
                return Err(InitError(
                    "process scheduler can't be used together with AllowedCPUs".to_owned(),
                ));
            }
            other => named("setting the scheduler", other)?,
        }
    }
    if let Some((class, level)) = process.io_priority {
        named("setting the I/O priority", wharf_sys::sched::set_io_priority(class, level))?;
    }
    if !user_namespace {
        named("raising limits", limits::raise(&process.rlimits, None))?;
    }
    named("preparing the standard streams", identity::own_stdio(process.uid, root))?;
    if process.no_new_privileges {
        named("setting no_new_privs", rustix::thread::set_no_new_privs(true))?;
    }
    // as container root first: it may be allowed where the user is not; else again as the user
    let entered = identity::enter_cwd(root, &process.cwd);
    // without no_new_privs loading a filter takes CAP_SYS_ADMIN, which is about to go
    if !process.no_new_privileges {
        filter(seccomp, kept, channel)?;
    }
    named(
        "becoming the user",
        identity::become_user(process, user_namespace || crate::rootless::in_user_namespace()),
    )?;
    if entered.is_err() {
        named("entering the working directory", identity::enter_cwd(root, &process.cwd))?;
    }
    rustix::process::umask(Mode::from_raw_mode(process.umask.unwrap_or(0o022)));
    if process.no_new_privileges && seccomp.is_some_and(|f| f.notify) {
        filter(seccomp, kept, channel)?; // its descriptor has to reach the runtime before Ready
    }
    Ok(Program::find(process, root)?)
}

/// Whether `settle` loads the filter, and has all descriptors that are to go marked before.
pub fn is_loaded_early(process: &ProcessPlan, filter: &Filter) -> bool {
    !process.no_new_privileges || filter.notify
}

fn filter(seccomp: Option<&Filter>, kept: u32, channel: &mut Channel) -> Result<(), InitError> {
    let Some(program) = seccomp else { return Ok(()) };
    close_on_exec(kept)?;
    let listener =
        named("loading the seccomp filter", wharf_sys::seccomp::install(&program.filter, program.flags))?;
    if let Some(listener) = listener {
        channel.send(Step::Listener, Some(listener.as_fd()))?;
    }
    Ok(())
}

/// With no_new_privs the filter is loaded as late as can be, so that it need not allow what init still has to do.
pub fn load_last(filter: Option<&Filter>) -> Result<(), InitError> {
    if let Some(program) = filter {
        named("loading the seccomp filter", wharf_sys::seccomp::install(&program.filter, program.flags))?;
    }
    Ok(())
}

/// The label that the next exec takes. Written through the private procfs: redirecting this write was a way to run
/// unconfined (CVE-2019-16884, CVE-2025-52881).
pub fn labels(process: &ProcessPlan, proc: &Proc) -> Result<(), InitError> {
    let pid = rustix::process::getpid().as_raw_nonzero();
    let task = format!("{pid}/task/{pid}/attr");
    if let Some(profile) = &process.apparmor {
        let text = format!("exec {profile}");
        named(
            "applying process.apparmorProfile, which has to be loaded on this host",
            proc.write(&format!("{task}/apparmor/exec"), text.as_bytes())
                .or_else(|_| proc.write(&format!("{task}/exec"), text.as_bytes())),
        )?;
    }
    if let Some(label) = &process.selinux {
        named("applying the SELinux label", proc.write(&format!("{task}/exec"), label.as_bytes()))?;
    }
    Ok(())
}

/// A session keyring of the container's own, that its processes may use and nobody else's keys are in.
pub fn keyring(id: &str) -> Result<(), InitError> {
    let Ok(name) = CString::new(format!("_ses.{id}")) else { return Ok(()) };
    match wharf_sys::keyring::join_session_keyring(&name) {
        Ok(key) => {
            // searching is allowed to the user, so that the container's other processes find the keyring
            let search_by_user = 0x0008_0000;
            if let Ok(permissions) = wharf_sys::keyring::key_permissions(key) {
                let _ = wharf_sys::keyring::set_key_permissions(key, permissions | search_by_user);
            }
            Ok(())
        }
        // no keyrings in this kernel, or a filter of an outer container in the way: runc goes on likewise
        Err(e) if matches!(e.raw_os_error(), Some(38 | 1)) => Ok(()),
        Err(e) => named("making a session keyring", Err(e)),
    }
}
