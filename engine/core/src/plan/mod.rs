//! Planning: from a container's record to what is asked of the lifecycle daemon. Looks things up, changes nothing
//! but the container's own small files.

mod files;
mod spec;
mod stdio;
mod user;

use std::path::{Path, PathBuf};

use engine_backend::Mount;
use wharf_docker::container::ExecCreate;

use crate::container::record::Record;
use crate::engine::Shared;
use crate::error::EngineError;

pub(crate) use files::make_dir;
pub(crate) use stdio::{StdioPlan, exec_stdio, relay, stdio};

/// A start that is planned.
pub(crate) struct Planned {
    /// The OCI spec, JSON.
    pub spec: Vec<u8>,
}

/// The spec for a start: every lookup must succeed.
pub(crate) fn start(shared: &Shared, record: &Record, layers: &[PathBuf]) -> Result<Planned, EngineError> {
    files::write(shared, record)?;
    let spec = spec::build(shared, record, layers, spec::Strictness::Start)?;
    Ok(Planned { spec: encode(&spec)? })
}

/// The spec as far as it can be known when the container is created; the start plans it again.
pub(crate) fn draft(shared: &Shared, record: &Record, layers: &[PathBuf]) -> Result<Vec<u8>, EngineError> {
    encode(&spec::build(shared, record, layers, spec::Strictness::Draft)?)
}

/// The OCI process of an exec, JSON.
pub(crate) fn exec(
    shared: &Shared,
    record: &Record,
    request: &ExecCreate,
    console_size: Option<(u32, u32)>,
    layers: &[PathBuf],
) -> Result<Vec<u8>, EngineError> {
    let spec = spec::build(shared, record, layers, spec::Strictness::Draft)?;
    // never the draft's user: a name that is not found there must not become root
    let name = if request.user.is_empty() { &record.config.user } else { &request.user };
    let groups = record.host.group_add.clone().unwrap_or_default();
    let user = Some(user::resolve(name, &groups, layers)?);
    let exec = wharf_oci::Exec {
        args: request.cmd.as_ref().map(|words| words.0.clone()).unwrap_or_default(),
        env: request.env.clone().unwrap_or_default(),
        cwd: request.working_dir.clone(),
        user,
        terminal: request.tty,
        console_size: console_size.filter(|_| request.tty).map(|(h, w)| (u64::from(h), u64::from(w))),
        privileged: request.privileged,
    };
    let base = spec.process().clone().unwrap_or_default();
    let process = wharf_oci::exec_process(&base, &exec, &shared.host)
        .map_err(|e| EngineError::Invalid(e.to_string()))?;
    encode(&process)
}

/// Limits as `task update` takes them, JSON.
pub(crate) fn limits(host: &wharf_docker::container::HostConfig) -> Result<Vec<u8>, EngineError> {
    let limits = spec::resources(host)?;
    encode(&wharf_oci::resources::linux(&limits).map_err(|e| EngineError::Invalid(e.to_string()))?)
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, EngineError> {
    serde_json::to_vec(value).map_err(|error| EngineError::Internal(format!("encode the OCI spec: {error}")))
}

/// Directories of a root's layers, uppermost first, as its mounts name them; empty if they are of another kind.
pub(crate) fn layer_dirs(rootfs: &[Mount]) -> Vec<PathBuf> {
    let Some(root) = rootfs.last() else { return Vec::new() };
    let option =
        |name: &str| root.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    match root.kind.as_str() {
        "overlay" => {
            let upper = option("upperdir").into_iter().map(PathBuf::from);
            let lower = option("lowerdir").into_iter().flat_map(|list| list.split(':')).map(PathBuf::from);
            upper.chain(lower).collect()
        }
        "bind" => vec![PathBuf::from(&root.source)],
        _ => Vec::new(),
    }
}

/// Paths that Docker masks unless told otherwise.
pub(crate) fn default_masked_paths(shared: &Shared) -> Vec<String> {
    shared.host.masked_paths.clone()
}

/// Paths that Docker makes read-only unless told otherwise.
pub(crate) fn default_readonly_paths() -> Vec<String> {
    wharf_oci::paths::READONLY.iter().map(|path| (*path).to_owned()).collect()
}

/// The files that are bound into a container's /etc, unless it shares another's network.
pub(crate) fn etc_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_come_uppermost_first() {
        let mount = Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: ["workdir=/w", "upperdir=/u", "lowerdir=/b:/a"].map(str::to_owned).to_vec(),
        };
        assert_eq!(layer_dirs(&[mount]), ["/u", "/b", "/a"].map(PathBuf::from));
        let bind = Mount { kind: "bind".to_owned(), source: "/fs".to_owned(), ..Mount::default() };
        assert_eq!(layer_dirs(&[bind]), [PathBuf::from("/fs")]);
    }
}
