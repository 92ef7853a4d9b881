//! Finding the program in PATH. The texts of the errors are Go's, since daemons choose exit code 126 or 127 by them.

use super::ProcessError;
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, statat};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The value PATH has where the environment does not give one (execvp(3)'s is not used: Go has none).
pub fn path_of(env: &[CString]) -> &[u8] {
    env.iter().find_map(|e| e.as_bytes().strip_prefix(b"PATH=")).unwrap_or_default()
}

/// The path of `name` as execve takes it. A name with a slash is taken as it is.
pub fn find(name: &str, path: &[u8]) -> Result<PathBuf, ProcessError> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(Errno::NOENT) => {
                Err(ProcessError::Refused(format!("exec: {name:?}: stat {name}: no such file or directory")))
            }
            Err(e) => Err(ProcessError::Refused(format!("exec: {name:?}: {}", text(e)))),
        };
    }
    for dir in path.split(|b| *b == b':') {
        // an empty element means the current directory; Go refuses what it finds there, so it is not looked at
        if dir.is_empty() {
            continue;
        }
        let candidate = Path::new(OsStr::from_bytes(dir)).join(name);
        if candidate.is_absolute() && executable(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err(ProcessError::Refused(format!("exec: {name:?}: executable file not found in $PATH")))
}

fn executable(path: &Path) -> Result<(), Errno> {
    let stat = statat(CWD, path, AtFlags::empty())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // a kernel or filter without faccessat2 cannot say; execve will
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        other => other,
    }
}

/// Go's wording of an errno: lower case.
pub fn text(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_path_only() {
        assert_eq!(find("sh", b"/nonexistent::/bin").unwrap(), Path::new("/bin/sh"));
        let err = find("no-such-program", b"/bin:/usr/bin").unwrap_err().to_string();
        assert_eq!(err, "exec: \"no-such-program\": executable file not found in $PATH");
    }

    #[test]
    fn paths_say_what_is_wrong_with_them() {
        let err = |p| find(p, b"").unwrap_err().to_string();
        assert_eq!(
            err("/nonexistent"),
            "exec: \"/nonexistent\": stat /nonexistent: no such file or directory"
        );
        assert_eq!(err("/etc/passwd"), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(err("/etc"), "exec: \"/etc\": is a directory");
    }
}
