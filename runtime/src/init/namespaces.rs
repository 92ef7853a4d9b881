//! Entering namespaces as init.

use super::InitError;
use crate::plan::namespaces::{Join, NamespacePlan};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
use std::os::fd::OwnedFd;
use wharf_sys::namespace::{Namespaces, setns, unshare};

/// An open namespace, still to be entered.
#[derive(Debug)]
pub struct Entered {
    pub fd: OwnedFd,
    pub join: Join,
}

/// Opens namespaces by path, before anything has been created.
pub fn open(joins: &[Join]) -> Result<Vec<Entered>, InitError> {
    joins
        .iter()
        .map(|join| {
            let fd = rustix::fs::open(&join.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| InitError(format!("{}.path: opening {}: {e}", join.at, join.path.display())))?;
            Ok(Entered { fd, join: join.clone() })
        })
        .collect()
}

/// Enters them; the kind is checked by the kernel.
pub fn enter(namespaces: Vec<Entered>) -> Result<(), InitError> {
    for Entered { fd, join } in namespaces {
        setns(&fd, join.kind)
            .map_err(|e| InitError(format!("{}.path: entering {}: {e}", join.at, join.path.display())))?;
    }
    Ok(())
}

/// In a new user namespace: takes its ids 0, since what is made from here on should belong to its root.
pub fn become_root(plan: &NamespacePlan) -> Result<(), InitError> {
    if !plan.private.contains(Namespaces::USER) {
        return Ok(());
    }
    let gid = rustix::fs::Gid::ROOT;
    set_thread_res_gid(gid, gid, gid)?;
    let uid = rustix::fs::Uid::ROOT;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Makes a time namespace for this process's children, with these offsets: they can only be written while nobody is in it.
pub fn shift_clocks(offsets: &[(String, i64, u32)]) -> Result<(), InitError> {
    unshare(Namespaces::TIME).map_err(|e| InitError(format!("making the time namespace: {e}")))?;
    for (clock, secs, nanos) in offsets {
        std::fs::write("/proc/self/timens_offsets", format!("{clock} {secs} {nanos}\n"))
            .map_err(|e| InitError(format!("linux.timeOffsets.{clock}: {e}")))?;
    }
    Ok(())
}

/// Moves this process itself to the time namespace that it has made for its children.
pub fn follow_clocks() -> Result<(), InitError> {
    let own = "/proc/self/ns/time_for_children";
    let fd = rustix::fs::open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    setns(&fd, Namespaces::TIME).map_err(|e| InitError(format!("entering the time namespace: {e}")))
}
