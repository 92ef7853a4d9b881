//! Session keyrings (keyctl(2)).

use crate::check;
use std::ffi::CStr;
use std::io;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;
const KEYCTL_DESCRIBE: libc::c_int = 6;

/// Leaves the inherited session keyring for a new one (or an existing one) of this name; returns its serial number.
pub fn join_session_keyring(name: &CStr) -> io::Result<i32> {
    // SAFETY: the name is NUL-terminated and only read.
    let id = check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    Ok(id as i32)
}

/// Reads the permission mask of a key.
pub fn key_permissions(key: i32) -> io::Result<u32> {
    let mut text = [0u8; 1024];
    // SAFETY: the buffer is writable for its whole length, which is passed.
    let len = check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, key, text.as_mut_ptr(), text.len())
    })?;
    // "type;uid;gid;perm;description" with perm in hexadecimal (keyctl_describe(3))
    let text = text.get(..(len as usize).min(text.len())).unwrap_or_default();
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.split(';').nth(3))
        .and_then(|p| u32::from_str_radix(p, 16).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable key description"))
}

/// Replaces the permission mask of a key.
pub fn set_key_permissions(key: i32, mask: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, mask) })?;
    Ok(())
}
