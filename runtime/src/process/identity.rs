//! User, groups, capabilities and working directory.

use super::ProcessError;
use crate::plan::capabilities::CapSets;
use crate::plan::process::ProcessPlan;
use crate::rootfs::resolve::Root;
use rustix::fs::{FileType, Gid, OFlags, Stat, Uid, fchown, fcntl_setfl, fstat, makedev};
use rustix::io::Errno;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// Enters the working directory, and makes sure that it is one of the container's: a path that leads to an inherited
/// descriptor of the host would otherwise be a way out (CVE-2024-21626).
pub fn enter_cwd(root: &Root, cwd: &Path) -> Result<(), ProcessError> {
    let failed = |e: Errno| ProcessError::Act { act: format!("chdir to cwd ({cwd:?})"), source: e.into() };
    let dir = root.open(cwd, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
    rustix::process::fchdir(&dir).map_err(failed)?;
    let here = rustix::process::getcwd(Vec::new()).map_err(failed)?;
    // the kernel writes "(unreachable)" before a path that is not below the root
    if !here.as_bytes().starts_with(b"/") {
        return Err(ProcessError::Refused(format!(
            "current working directory {here:?} is outside of container mount namespace root; refusing to go on"
        )));
    }
    Ok(())
}

/// Gives the standard streams to the user, so that it can open /dev/stdout again; what cannot be given is left. One that is
/// the host's /dev/null becomes the container's, if that is the null device: it would be a file of a mount that the
/// container does not have, with which its processes cannot be saved.
pub fn own_stdio(uid: u32, root: &Root) -> Result<(), ProcessError> {
    let replace: [fn(&OwnedFd) -> Result<(), Errno>; 3] =
        [|fd| dup2_stdin(fd), |fd| dup2_stdout(fd), |fd| dup2_stderr(fd)];
    let mut null = None;
    for (fd, replace) in stdio().into_iter().zip(replace) {
        let stat = fstat(fd).map_err(ProcessError::act("looking at a standard stream"))?;
        if is_null(&stat) {
            // the host's own is shared by everyone, and nobody's to take
            if let Some(null) = null.get_or_insert_with(|| null_device(root)) {
                replace(null).map_err(ProcessError::act("replacing a standard stream"))?;
            }
            continue;
        }
        if stat.st_uid == uid {
            continue;
        }
        match fchown(fd, Some(Uid::from_raw(uid)), None) {
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::ACCESS) => {}
            Err(e) => return Err(ProcessError::act("giving a standard stream to the user")(e)),
        }
    }
    Ok(())
}

fn is_null(stat: &Stat) -> bool {
    stat.st_rdev == makedev(1, 3) && FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
}

/// The container's null device. An image may have put anything in its place: it is looked at before it is opened, and
/// again after, and opening does not wait.
fn null_device(root: &Root) -> Option<OwnedFd> {
    let path = Path::new("/dev/null");
    let found = |flags| {
        root.open_without_symlinks(path, flags).ok().filter(|fd| fstat(fd).is_ok_and(|s| is_null(&s)))
    };
    found(OFlags::PATH)?;
    let null = found(OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK)?;
    fcntl_setfl(&null, OFlags::empty()).ok()?;
    Some(null)
}

/// Becomes the user with exactly the groups and capabilities asked for. No way back.
pub fn become_user(plan: &ProcessPlan, in_user_namespace: bool) -> Result<(), ProcessError> {
    let held = capabilities(None).map_err(ProcessError::act("reading own capabilities"))?;
    let caps = plan.caps.limited_to(held.permitted.bits());
    limit_bounding(caps.bounding, held)?;
    set_keep_capabilities(true).map_err(ProcessError::act("keeping capabilities"))?;
    groups(&plan.groups, in_user_namespace)?;
    let gid = Gid::from_raw(plan.gid);
    set_thread_res_gid(gid, gid, gid).map_err(ProcessError::act(format!("setgid {}", plan.gid)))?;
    let uid = Uid::from_raw(plan.uid);
    set_thread_res_uid(uid, uid, uid).map_err(ProcessError::act(format!("setuid {}", plan.uid)))?;
    set_keep_capabilities(false).map_err(ProcessError::act("dropping the keeping of capabilities"))?;
    apply(caps)
}

fn groups(groups: &[u32], in_user_namespace: bool) -> Result<(), ProcessError> {
    let list: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    match set_thread_groups(&list) {
        // where setgroups had to be denied to get a mapping at all, there is nothing to drop it with
        Err(Errno::PERM) if in_user_namespace && list.is_empty() => Ok(()),
        other => other.map_err(ProcessError::act("setgroups")),
    }
}

fn limit_bounding(keep: u64, held: CapabilitySets) -> Result<(), ProcessError> {
    if !held.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(()); // dropping needs the right to; what is in no other set cannot be gained without a setuid file
    }
    for bit in 0..64u32 {
        if keep & (1 << bit) != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            Err(Errno::INVAL) => break, // past the last capability of this kernel
            Err(e) => return Err(ProcessError::act("limiting the bounding set")(e)),
        }
    }
    Ok(())
}

fn apply(caps: CapSets) -> Result<(), ProcessError> {
    let set = CapabilitySet::from_bits_retain;
    let sets = CapabilitySets {
        effective: set(caps.effective),
        permitted: set(caps.permitted),
        inheritable: set(caps.inheritable),
    };
    set_capabilities(None, sets).map_err(ProcessError::act("setting capabilities"))?;
    for bit in (0..64u32).filter(|b| caps.ambient & (1 << b) != 0) {
        match configure_capability_in_ambient_set(set(1 << bit), true) {
            // ambient needs permitted and inheritable; runc warns and goes on
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(e) => return Err(ProcessError::act("setting ambient capabilities")(e)),
        }
    }
    Ok(())
}

/// The three standard streams of this process.
pub fn stdio() -> [BorrowedFd<'static>; 3] {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
}
