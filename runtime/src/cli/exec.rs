//! `exec`.

use super::args::ExecArgs;
use super::{Failure, Outcome, prefixed};
use crate::config;
use crate::container::ContainerError;
use crate::container::exec::{Options, exec as execute, saved_spec};
use crate::container::status::Container;
use crate::relay;
use crate::spec::{Process, Spec};
use crate::state::StateRoot;
use oci_spec::runtime::{Capability, User};
use wharf_sys::signal::{SignalFd, block_all};

/// Exit code of an exec that did not get to its program.
const NOT_RUN: i32 = 255;

pub fn exec(root: &StateRoot, args: ExecArgs) -> Outcome {
    let failed = || prefixed("exec", NOT_RUN);
    let Some((id, command)) = args.id_and_command.split_first() else {
        return Err(Failure::new("runw: \"exec\" requires a minimum of 1 argument(s)"));
    };
    if command.is_empty() && args.process.is_none() {
        return Err(Failure { message: "exec failed: process args cannot be empty".into(), code: NOT_RUN });
    }
    let container = Container::load(root, id).map_err(failed())?;
    let spec = saved_spec(&container).map_err(failed())?;
    let process = process(&args, command, &spec).map_err(|e| failed()(e))?;
    let options = Options {
        console_socket: args.console_socket.clone(),
        pidfd_socket: args.pidfd_socket.clone(),
        pid_file: args.pid_file.clone(),
        preserve_fds: args.preserve_fds,
        ignore_paused: args.ignore_paused,
        detach: args.detach,
        sub_cgroups: args.cgroup.clone(),
    };
    if args.detach {
        execute(&container, &process, &spec, &options).map_err(failed())?;
        return Ok(0);
    }
    block_all().map_err(|e| Failure::new(format!("blocking signals: {e}")))?;
    let signals = SignalFd::all().map_err(|e| Failure::new(format!("making a signal descriptor: {e}")))?;
    let executed = execute(&container, &process, &spec, &options).map_err(failed())?;
    relay::serve(&executed.pidfd, executed.terminal, &signals)
        .map_err(|e| Failure::new(format!("serving the process: {e}")))
}

/// The process as the flags or the file have it; what they leave open comes from the container's own.
fn process(args: &ExecArgs, command: &[String], spec: &Spec) -> Result<Process, ContainerError> {
    let mut process: Process = match &args.process {
        Some(path) => config::read_json(path)?,
        None => {
            let mut process = spec.process.clone().unwrap_or_default();
            process.args = Some(command.to_vec());
            process.terminal = Some(false);
            process.console_size = None;
            process
        }
    };
    if args.process.is_some() {
        if args.tty {
            process.terminal = Some(true);
        }
        return Ok(process);
    }
    process.terminal = Some(args.tty);
    if let Some(cwd) = &args.cwd {
        process.cwd = cwd.into();
    }
    if !args.env.is_empty() {
        process.env.get_or_insert_default().extend(args.env.iter().cloned());
    }
    if args.no_new_privs {
        process.no_new_privileges = Some(true);
    }
    if args.apparmor.is_some() {
        process.apparmor_profile.clone_from(&args.apparmor);
    }
    if args.process_label.is_some() {
        process.selinux_label.clone_from(&args.process_label);
    }
    user(args, &mut process)?;
    capabilities(&args.cap, &mut process)?;
    Ok(process)
}

fn user(args: &ExecArgs, process: &mut Process) -> Result<(), ContainerError> {
    let user: &mut User = &mut process.user;
    if let Some(text) = &args.user {
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (uid, Some(gid)),
            None => (text.as_str(), None),
        };
        let id = |what: &str, text: &str| {
            text.parse::<u32>().map_err(|_| {
                ContainerError::Refused(format!(
                    "parsing {text:?} as a {what} for --user: a number is required"
                ))
            })
        };
        user.set_uid(id("uid", uid)?);
        if let Some(gid) = gid {
            user.set_gid(id("gid", gid)?);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&args.additional_gids);
        user.set_additional_gids(Some(gids));
    }
    Ok(())
}

/// Into bounding, effective and permitted.
fn capabilities(names: &[String], process: &mut Process) -> Result<(), ContainerError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut caps = process.capabilities.clone().unwrap_or_default();
    for name in names {
        let capability: Capability = serde_json::from_value(name.as_str().into())
            .map_err(|_| ContainerError::Refused(format!("unknown capability {name:?}")))?;
        let with = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective, permitted) =
            (with(caps.bounding()), with(caps.effective()), with(caps.permitted()));
        // runc's rule: with inheritable capabilities in config.json the new ones join these and the ambient ones
        if caps.inheritable().as_ref().is_some_and(|set| !set.is_empty()) {
            let (inheritable, ambient) = (with(caps.inheritable()), with(caps.ambient()));
            caps.set_inheritable(inheritable).set_ambient(ambient);
        }
        caps.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    }
    process.capabilities = Some(caps);
    Ok(())
}
