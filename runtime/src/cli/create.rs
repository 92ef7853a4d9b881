//! `create` and `run`.

use super::args::{CreateArgs, Global};
use super::{Failure, Outcome, prefixed};
use crate::container::create::{Options, Purpose, create as make};
use crate::container::delete::destroy;
use crate::rootless::tolerates_cgroups;
use crate::state::StateRoot;
use crate::{notify, relay};
use wharf_sys::fds::Inherited;
use wharf_sys::signal::{SignalFd, block_all};

fn options(global: &Global, args: &CreateArgs, inherited: Inherited) -> Result<Options, Failure> {
    Ok(Options {
        bundle: args.bundle.clone().unwrap_or_else(|| ".".into()),
        console_socket: args.console_socket.clone(),
        pidfd_socket: args.pidfd_socket.clone(),
        pid_file: args.pid_file.clone(),
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        preserve_fds: args.preserve_fds,
        inherited,
        listen_fds: listen_fds(),
        systemd_cgroup: global.systemd_cgroup,
        detach: args.detach,
        notify_socket: notify::host(),
        forgives_cgroups: tolerates_cgroups(&global.rootless).map_err(Failure::new)?,
    })
}

/// Sockets that systemd hands to this very process (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    const MAX: u32 = 1024;
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(n)) if pid == std::process::id() && n <= MAX => n,
        _ => 0,
    }
}

pub fn create(root: &StateRoot, global: &Global, args: CreateArgs, inherited: Inherited) -> Outcome {
    make(root, &args.id, &options(global, &args, inherited)?, Purpose::Create)
        .map_err(prefixed("runw create", 1))?;
    Ok(0)
}

pub fn run(root: &StateRoot, global: &Global, args: CreateArgs) -> Outcome {
    // a container that runs at once loses them with the exec
    let options = options(global, &args, Inherited::default())?;
    if args.detach {
        let created = make(root, &args.id, &options, Purpose::Run).map_err(prefixed("runw run", 1))?;
        if let (Some(socket), Some(host)) = (&created.notify, notify::host()) {
            warn(notify::forward(socket, &host, &created.pidfd, created.container.pid()));
        }
        return Ok(0);
    }
    // from before the process exists, so that no signal meant for it is lost
    block_all().map_err(|e| Failure::new(format!("blocking signals: {e}")))?;
    let signals = SignalFd::all().map_err(|e| Failure::new(format!("making a signal descriptor: {e}")))?;
    let created = make(root, &args.id, &options, Purpose::Run).map_err(prefixed("runw run", 1))?;
    let forwarder = match (&created.notify, notify::host()) {
        (Some(socket), Some(host)) => {
            let failed = |e| Failure::new(format!("forwarding notifications: {e}"));
            let socket = socket.try_clone().map_err(failed)?;
            let process = created.pidfd.try_clone().map_err(failed)?;
            let own = rustix::process::getpid().as_raw_nonzero().get();
            Some(std::thread::spawn(move || warn(notify::forward(&socket, &host, &process, own))))
        }
        _ => None,
    };
    let code = relay::serve(&created.pidfd, created.terminal, &signals)
        .map_err(|e| Failure::new(format!("serving the container's process: {e}")))?;
    if let Some(forwarder) = forwarder {
        // ends with the process; a panic there is no reason to keep the container
        let _ = forwarder.join();
    }
    if !args.keep {
        destroy(&created.container)?;
    }
    Ok(code)
}

/// The service manager is told or it is not: the container runs either way.
pub fn warn(forwarded: std::io::Result<()>) {
    if let Err(e) = forwarded {
        crate::log::warn(&format!("forwarding notifications: {e}"));
    }
}
