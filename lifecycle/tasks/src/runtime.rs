//! From a container's runtime name to the shim's program.

use std::env;
use std::path::{Path, PathBuf};

use wharf_kinds::Kind;

/// Why a runtime name leads to no program. The texts are containerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    #[error("no runtime name")]
    Empty,
    #[error(
        "invalid runtime name {0}, correct runtime name should be either format like `io.containerd.runc.v2` or a full path to the binary"
    )]
    Malformed(String),
    #[error("invalid custom binary path: stat {0}: no such file or directory")]
    NoSuchPath(PathBuf),
    #[error("runtime {runtime:?} binary not installed {program:?}: file does not exist")]
    NotInstalled { runtime: String, program: String },
}

impl RuntimeError {
    pub const fn kind(&self) -> Kind {
        match self {
            RuntimeError::Empty | RuntimeError::Malformed(_) => Kind::InvalidArgument,
            RuntimeError::NoSuchPath(_) | RuntimeError::NotInstalled { .. } => Kind::NotFound,
        }
    }
}

/// Finds shims: an absolute path is itself; `io.containerd.NAME.VERSION` is `containerd-shim-NAME-VERSION`
/// beside this program, else in `PATH`.
#[derive(Debug, Clone)]
pub struct Runtimes {
    folders: Vec<PathBuf>,
}

impl Runtimes {
    /// Looks beside the running program first, then along `PATH`.
    pub fn of_this_program() -> Self {
        let beside = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
        let path = env::var_os("PATH").unwrap_or_default();
        Runtimes::in_folders(beside.into_iter().chain(env::split_paths(&path)))
    }

    /// Looks in these folders, in order. Relative ones are ignored.
    pub fn in_folders(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        Runtimes { folders: folders.into_iter().filter(|folder| folder.is_absolute()).collect() }
    }

    /// The shim's program for a runtime name or path.
    pub fn resolve(&self, runtime: &str) -> Result<PathBuf, RuntimeError> {
        if runtime.is_empty() {
            return Err(RuntimeError::Empty);
        }
        if runtime.starts_with('/') {
            let path = PathBuf::from(runtime);
            return if path.is_file() { Ok(path) } else { Err(RuntimeError::NoSuchPath(path)) };
        }
        let program = program(runtime).ok_or_else(|| RuntimeError::Malformed(runtime.into()))?;
        self.folders
            .iter()
            .map(|folder| folder.join(&program))
            .find(|path| path.is_file())
            .ok_or_else(|| RuntimeError::NotInstalled { runtime: runtime.into(), program })
    }
}

/// `io.containerd.runc.v2` → `containerd-shim-runc-v2`.
fn program(runtime: &str) -> Option<String> {
    if runtime.contains('/') {
        return None;
    }
    let parts: Vec<&str> = runtime.split('.').collect();
    match parts[..] {
        [first, .., name, version] if !first.is_empty() => Some(format!("containerd-shim-{name}-{version}")),
        [name, version] if !name.is_empty() => Some(format!("containerd-shim-{name}-{version}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_become_programs() {
        assert_eq!(program("io.containerd.runc.v2").as_deref(), Some("containerd-shim-runc-v2"));
        assert_eq!(program("io.containerd.wharf.v2").as_deref(), Some("containerd-shim-wharf-v2"));
        assert_eq!(program("runc.v2").as_deref(), Some("containerd-shim-runc-v2"));
        assert_eq!(program("runc"), None);
        assert_eq!(program(".v2"), None);
        assert_eq!(program("a/b.v2"), None);
    }

    #[test]
    fn first_folder_that_has_the_program_wins() {
        let (first, second) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        let runtimes = Runtimes::in_folders([
            first.path().to_path_buf(),
            PathBuf::from("relative"),
            second.path().to_path_buf(),
        ]);
        let error = runtimes.resolve("io.containerd.x.v2").expect_err("not there yet");
        assert_eq!(error.kind(), Kind::NotFound);
        fs::write(second.path().join("containerd-shim-x-v2"), "").expect("write");
        assert!(runtimes.resolve("io.containerd.x.v2").expect("found").starts_with(second.path()));
        fs::write(first.path().join("containerd-shim-x-v2"), "").expect("write");
        assert!(runtimes.resolve("io.containerd.x.v2").expect("found").starts_with(first.path()));
    }

    #[test]
    fn paths_must_exist_and_be_absolute() {
        let runtimes = Runtimes::in_folders([]);
        assert!(matches!(runtimes.resolve("/no/such/shim"), Err(RuntimeError::NoSuchPath(_))));
        assert!(matches!(runtimes.resolve("./shim.v2"), Err(RuntimeError::Malformed(_))));
        assert_eq!(runtimes.resolve(""), Err(RuntimeError::Empty));
    }
}
