//! The last step: handing the process over to the program.

use super::{ProcessError, home, lookup};
use crate::plan::process::ProcessPlan;
use crate::rootfs::resolve::Root;
use rustix::io::Errno;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// A program that has been found, with its arguments and environment ready for execve.
#[derive(Debug)]
pub struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Looks the program up as the user that will run it. HOME is added where it is missing or empty.
    pub fn find(plan: &ProcessPlan, root: &Root) -> Result<Self, ProcessError> {
        let nul = |_| ProcessError::Refused("an argument contains a NUL byte".into());
        let mut env = plan.env.clone();
        // an empty one is none, as for runc
        env.retain(|e| e.as_bytes() != b"HOME=");
        if !env.iter().any(|e| e.as_bytes().starts_with(b"HOME=")) {
            env.push(CString::new(format!("HOME={}", home::of(root, plan.uid))).map_err(nul)?);
        }
        let name = plan.args.first().map(String::as_str).unwrap_or_default();
        let path = lookup::find(name, lookup::path_of(&env))?;
        let args =
            plan.args.iter().map(|a| CString::new(a.as_str())).collect::<Result<_, _>>().map_err(nul)?;
        Ok(Self { path: CString::new(path.as_os_str().as_bytes()).map_err(nul)?, args, env })
    }

    pub fn add_env(&mut self, entry: &str) {
        self.env.extend(CString::new(entry).ok());
    }

    /// The environment, NAME=value each.
    pub fn env(&self) -> Vec<String> {
        self.env.iter().map(|e| e.to_string_lossy().into_owned()).collect()
    }

    /// Becomes the program; after `close_on_exec` and `pass_on`.
    pub fn exec(&self) -> ProcessError {
        let error = wharf_sys::exec::execve(&self.path, &self.args, &self.env);
        let path = self.path.to_string_lossy().into_owned();
        let text = Errno::from_io_error(&error).map_or_else(|| error.to_string(), lookup::text);
        ProcessError::Refused(format!("exec {path}: {text}"))
    }
}

/// Has every descriptor but the standard streams and the `preserve` next ones closed by the exec that follows
/// (CVE-2016-9962, CVE-2024-21626). Before a filter is loaded, which need not allow this; what is opened later is
/// opened so.
pub fn close_on_exec(preserve: u32) -> Result<(), ProcessError> {
    wharf_sys::fds::cloexec_from(3 + preserve).map_err(ProcessError::io("closing descriptors"))
}

/// Leaves those to the program. As late as can be: a hook must not have them.
pub fn pass_on(preserve: u32) -> Result<(), ProcessError> {
    (3..3 + preserve).try_for_each(|fd| {
        wharf_sys::fds::keep_on_exec(fd as i32)
            .map_err(ProcessError::io(format!("passing on descriptor {fd}")))
    })
}
