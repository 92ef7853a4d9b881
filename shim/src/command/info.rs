//! `-v` and `-info`.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use prost::Message;
use prost_types::Any;
use wharf_containerd::containerd::types::{RuntimeInfo, RuntimeVersion};

use super::CommandError;
use crate::options::Options;

/// The runtime's answer to `features` at most.
const MAX_FEATURES: usize = 1024 * 1024;

/// In the lines of containerd's shims, which daemons and people read.
pub(super) fn version() -> String {
    format!("containerd-shim-wharf-v2:\n  Version:  {}\n  Revision: \n\n", env!("CARGO_PKG_VERSION"))
}

/// `RuntimeInfo`: the options from stdin and what the runtime says of its features.
pub(super) fn info() -> Result<Vec<u8>, CommandError> {
    let mut input = Vec::new();
    let read = io::stdin().lock().take(1024 * 1024).read_to_end(&mut input);
    read.map_err(|e| CommandError::Input(e.to_string()))?;
    let any = Any::decode(&input[..]).map_err(|e| CommandError::Input(e.to_string()))?;
    let options = Options::from_any(Some(&any)).map_err(CommandError::Input)?;
    let runtime = options.runtime();
    let Some(found) = look_up(&runtime, std::env::var_os("PATH").as_deref()) else {
        return Err(CommandError::Runtime { binary: runtime });
    };
    // a runtime without the verb has no features to tell
    let features = Command::new(found).arg("features").stdin(Stdio::null()).output().ok();
    let features = features.filter(|f| f.status.success() && f.stdout.len() <= MAX_FEATURES);
    let features = features.filter(|f| serde_json::from_slice::<serde_json::Value>(&f.stdout).is_ok());
    let info = RuntimeInfo {
        name: "io.containerd.wharf.v2".to_owned(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
        }),
        options: (!any.value.is_empty()).then_some(any),
        features: features.map(|f| Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".to_owned(),
            value: f.stdout,
        }),
        ..RuntimeInfo::default()
    };
    Ok(info.encode_to_vec())
}

/// The executable of a name, as a shell finds it.
fn look_up(name: &Path, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.components().count() > 1 {
        return Some(name.to_owned()).filter(is_program);
    }
    std::env::split_paths(path?).filter(|folder| folder.is_absolute()).map(|f| f.join(name)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_up_as_a_shell_does() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("runtime");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([Path::new("/nonexistent"), dir.path()]).unwrap();
        let find = |name: &Path| look_up(name, Some(&path));
        assert_eq!(find(Path::new("runtime")), None, "it is not executable");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(find(Path::new("runtime")), Some(program.clone()));
        assert_eq!(find(&program), Some(program));
        assert_eq!(find(dir.path()), None, "a folder is no program");
        assert_eq!(look_up(Path::new("runtime"), None), None);
    }
}
