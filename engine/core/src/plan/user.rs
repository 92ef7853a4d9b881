//! Who a process runs as, looked up in the root's layers without mounting them.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use wharf_oci::user::{Files, Ids};

use crate::error::EngineError;

/// Resolves Docker's `USER` form against `/etc/passwd` and `/etc/group` of the layers, uppermost first.
pub(super) fn resolve(spec: &str, group_add: &[String], layers: &[PathBuf]) -> Result<Ids, EngineError> {
    let files = files(layers)?;
    wharf_oci::user::resolve(spec, &files, group_add).map_err(|e| EngineError::Invalid(e.to_string()))
}

fn files(layers: &[PathBuf]) -> Result<Files, EngineError> {
    let mut found = Files::default();
    for layer in layers {
        let root =
            openat(rustix::fs::CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| EngineError::host(format!("open layer {}", layer.display()), e.into()))?;
        let own = Files::read(std::os::fd::AsFd::as_fd(&root))
            .map_err(|e| EngineError::Internal(format!("read users of {}: {e}", layer.display())))?;
        found.passwd = found.passwd.or(own.passwd);
        found.group = found.group.or(own.group);
        if (found.passwd.is_some() && found.group.is_some()) || is_opaque(&layer.join("etc")) {
            break;
        }
    }
    Ok(found)
}

/// Whether lower layers do not show through a directory.
fn is_opaque(dir: &Path) -> bool {
    let mut value = [0_u8; 1];
    matches!(rustix::fs::lgetxattr(dir, "trusted.overlay.opaque", &mut value), Ok(1) if value == *b"y")
}
