//! What a filter returns (include/uapi/linux/seccomp.h).

use oci_spec::runtime::LinuxSeccompAction;

use crate::error::SeccompError;

pub(crate) const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The kernel's highest error number.
const MAX_ERRNO: u32 = 4095;

/// A call that the profile is too old to know.
pub(crate) const UNKNOWN_CALL: u32 = ERRNO | ENOSYS;

/// The return value for an action. `errno` is EPERM where the action takes one and none is given.
pub(crate) fn value(
    action: LinuxSeccompAction,
    errno: Option<u32>,
    field: &str,
) -> Result<u32, SeccompError> {
    use LinuxSeccompAction as A;
    let data = errno.unwrap_or(EPERM);
    Ok(match action {
        A::ScmpActKill | A::ScmpActKillThread => KILL_THREAD,
        A::ScmpActKillProcess => KILL_PROCESS,
        A::ScmpActTrap => TRAP,
        A::ScmpActErrno if data <= MAX_ERRNO => ERRNO | data,
        A::ScmpActErrno => {
            let reason = format!("{data} is no error number: 0 to {MAX_ERRNO}");
            return Err(SeccompError::invalid(field, reason));
        }
        A::ScmpActTrace if data <= 0xffff => TRACE | data,
        A::ScmpActTrace => {
            return Err(SeccompError::invalid(
                field,
                format!("{data} is too big for a tracer's value: 0 to 65535"),
            ));
        }
        A::ScmpActNotify => USER_NOTIF,
        A::ScmpActLog => LOG,
        A::ScmpActAllow => ALLOW,
    })
}

/// Whether a default of `value` lets calls happen, so that new calls need no ENOSYS: tracers are expected to know.
pub(crate) fn is_permissive(value: u32) -> bool {
    matches!(value & 0xffff_0000, ALLOW | LOG | TRACE)
}
