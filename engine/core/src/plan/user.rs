//! Who a process runs as, looked up in the root's layers without mounting them.

use std::path::PathBuf;

use wharf_oci::user::{Files, Ids};

use crate::error::EngineError;

/// Resolves Docker's `USER` form against `/etc/passwd` and `/etc/group` of the layers, uppermost first.
pub(super) fn resolve(spec: &str, group_add: &[String], layers: &[PathBuf]) -> Result<Ids, EngineError> {
    let invalid = |e: wharf_oci::user::UserError| EngineError::Invalid(e.to_string());
    let files = Files::read_layers(layers).map_err(invalid)?;
    wharf_oci::user::resolve(spec, &files, group_add).map_err(invalid)
}
