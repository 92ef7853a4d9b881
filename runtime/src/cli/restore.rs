//! `restore`.

use super::args::{Global, RestoreArgs};
use super::checkpoint::{IMAGES, cgroups_mode, check_empty_namespaces, warn_rootless};
use super::{Failure, Outcome};
use crate::container::create::Options as Creation;
use crate::container::delete::destroy;
use crate::container::restore::{Options, restore as make};
use crate::criu::Choices;
use crate::relay;
use crate::state::StateRoot;
use wharf_sys::signal::{SignalFd, block_all};

pub fn restore(root: &StateRoot, global: &Global, args: RestoreArgs) -> Outcome {
    warn_rootless();
    check_empty_namespaces(&args.empty_ns)?;
    let options = Options {
        images: args.image_path.clone().unwrap_or_else(|| IMAGES.into()),
        work: args.work_path.clone(),
        choices: Choices {
            tcp_established: args.tcp_established,
            ext_unix_sk: args.ext_unix_sk,
            shell_job: args.shell_job,
            file_locks: args.file_locks,
            auto_dedup: args.auto_dedup,
            lazy_pages: args.lazy_pages,
            cgroups_mode: cgroups_mode(args.manage_cgroups_mode.as_deref())?,
        },
        lsm_profile: args.lsm_profile.clone(),
        lsm_mount_context: args.lsm_mount_context.clone(),
    };
    let how = Creation {
        bundle: args.bundle.clone().unwrap_or_else(|| ".".into()),
        console_socket: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        systemd_cgroup: global.systemd_cgroup,
        detach: args.detach,
        ..Creation::default()
    };
    if args.detach {
        make(root, &args.id, &how, &options)?;
        return Ok(0);
    }
    // from before the process exists, so that no signal meant for it is lost
    block_all().map_err(|e| Failure::new(format!("blocking signals: {e}")))?;
    let signals = SignalFd::all().map_err(|e| Failure::new(format!("making a signal descriptor: {e}")))?;
    let created = make(root, &args.id, &how, &options)?;
    let code = relay::serve(&created.pidfd, created.terminal, &signals)
        .map_err(|e| Failure::new(format!("serving the container's process: {e}")))?;
    destroy(&created.container)?;
    Ok(code)
}
