//! `delete`: cleans up after a shim that is gone, and tells how its container ended.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use prost::Message;
use wharf_containerd::containerd::task::v3::DeleteResponse;

use super::flags::Flags;
use super::{CommandError, socket, socket_dir};
use crate::options::Options;
use crate::reaper::{Exit, Reaper};
use crate::runtime::{Runtime, read_pid};
use crate::{log, mounts, record};

/// The status of a container whose end nobody saw: killed, as containerd's shim says.
const KILLED: u32 = 128 + 9;

pub(super) fn delete(flags: &Flags) -> Result<Vec<u8>, CommandError> {
    let bundle = bundle(flags)?;
    let of_bundle = |source| CommandError::Bundle { path: bundle.clone(), act: "read options", source };
    let options = Options::load(&bundle).map_err(of_bundle)?;
    let reaper = Arc::new(Reaper::default());
    let there = Arc::clone(&reaper);
    std::thread::spawn(move || there.run());
    let sockets = socket_dir(&bundle);
    let root = options.runtime_root(sockets.as_deref(), &flags.namespace);
    let runtime = Runtime::new(reaper, &options, root, bundle.clone());
    if let Err(e) = runtime.delete(&flags.id, true)
        && !e.is_absent()
    {
        log::warn(format_args!("container {}: {e}", flags.id));
    }
    if let Err(e) = mounts::unmount_all(&bundle.join("rootfs")) {
        log::warn(format_args!("container {}: {e}", flags.id));
    }
    let dir = sockets.unwrap_or_else(|| PathBuf::from(socket::DEFAULT_DIR));
    // of a pod's shim this is another's path, which is served and stays
    let path = socket::path(&dir, &flags.address, &flags.namespace, &flags.id);
    if std::os::unix::net::UnixStream::connect(&path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let exit = match record::read(&bundle, None) {
        Ok(Some(exit)) => exit,
        other => {
            if let Err(e) = other {
                log::warn(format_args!("container {}: {e}", flags.id));
            }
            let pid = read_pid(&bundle.join("init.pid")).unwrap_or(0);
            Exit { pid, status: KILLED, at: SystemTime::now() }
        }
    };
    let response =
        DeleteResponse { pid: exit.pid, exit_status: exit.status, exited_at: Some(exit.at.into()) };
    Ok(response.encode_to_vec())
}

/// The bundle is the working directory, which names the container; a daemon may run this elsewhere and give
/// the path.
fn bundle(flags: &Flags) -> Result<PathBuf, CommandError> {
    if let Some(bundle) = &flags.bundle {
        return Ok(bundle.clone());
    }
    let here = std::env::current_dir();
    let here = here.map_err(|source| CommandError::Server { act: "find the bundle", source })?;
    // as containerd's shim: the container's folder beside the one it is run in
    Ok(here.parent().map_or_else(|| here.clone(), |bundles| bundles.join(&flags.id)))
}
