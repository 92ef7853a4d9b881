//! Running from an executable that nothing can write to.
//!
//! A container process can get hold of /proc/PID/exe of a process that enters its namespaces, and through that link of
//! the file itself (CVE-2019-5736). So commands that do that first replace themselves by a copy of the program behind
//! a detached read-only mount: the link then leads to a mount where opening for writing fails with EROFS whoever tries,
//! and which is in no mount table, so that it cannot be remounted. Where such a mount cannot be made (not privileged),
//! a sealed copy in memory takes its place. Where the program starts at [`wharf_sys::protected_start`], that has put the
//! mount in place already; here is looked whether it did.

use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals,
};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use wharf_sys::mount::{MountChange, attr, mount_setattr};
use wharf_sys::protected_start::MARK;

const EXE: &str = "/proc/self/exe";

/// Returns once this process runs from a protected executable: at once, or as the program executed anew.
pub fn protect() -> io::Result<()> {
    if is_protected()? {
        return Ok(());
    }
    if std::env::var_os(MARK).is_some() {
        return Err(io::Error::other("the runtime could not make its own executable read-only"));
    }
    let copy = read_only_mount().or_else(|_| sealed_copy())?;
    let bytes =
        |s: OsString| CString::new(s.into_vec()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let args = std::env::args_os().map(bytes).collect::<io::Result<Vec<_>>>()?;
    let mut env = Vec::new();
    for (name, value) in std::env::vars_os() {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        env.push(bytes(OsString::from_vec(entry))?);
    }
    env.push(bytes(format!("{MARK}=1").into())?);
    Err(wharf_sys::exec::execve_fd(copy, &args, &env))
}

fn is_protected() -> io::Result<bool> {
    let exe = rustix::fs::open(EXE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    if rustix::fs::fstatvfs(&exe)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    Ok(fcntl_get_seals(&exe).is_ok_and(|s| s.contains(SealFlags::WRITE | SealFlags::SEAL)))
}

fn read_only_mount() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, EXE, flags)?;
    let change = MountChange { set: attr::RDONLY | attr::NODEV, ..MountChange::default() };
    mount_setattr(mount.as_fd(), c"", &change)?;
    Ok(mount)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("runw", flags)?;
    let exe = rustix::fs::open(EXE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut memory = std::fs::File::from(memory);
    io::copy(&mut std::fs::File::from(exe), &mut memory)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memory, seals)?;
    // a file that is open for writing anywhere cannot be executed (ETXTBSY)
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
