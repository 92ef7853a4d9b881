//! Running another process in a container.

use super::create::files::{pidfd_receiver, send_pidfd, write_pid_file};
use super::create::{listener, oom_score};
use super::status::{Container, Status};
use super::{ContainerError, HookState};
use crate::handshake::{Channel, Script, Step};
use crate::host::Host;
use crate::init::{self, InitError, settle};
use crate::pid::ProcessId;
use crate::plan::placement::{self, Placement};
use crate::plan::process::{self, ProcessPlan};
use crate::plan::rdt;
use crate::process::limits;
use crate::process::program::{self, Program};
use crate::rootfs::procfs::Proc;
use crate::rootfs::resolve::Root;
use crate::spec::{Process, Spec};
use crate::{config, console, rootless, seccomp};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use wharf_cgroups::systemd::Bus;
use wharf_cgroups::{Cgroup, CgroupError, Hierarchies, Joiner, Paths};
use wharf_sys::fork::{Fork, Forked, exit_now};
use wharf_sys::namespace::{Namespaces, setns};

/// How the process is to be run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub console_socket: Option<PathBuf>,
    /// Gets a pidfd of the process, with the word `setns`.
    pub pidfd_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub preserve_fds: u32,
    pub ignore_paused: bool,
    pub detach: bool,
    /// Cgroups below the container's: one path for all controllers, or for some `controller[,…]:path`.
    pub sub_cgroups: Vec<String>,
}

/// A process that runs in a container.
#[derive(Debug)]
pub struct Executed {
    pub pidfd: OwnedFd,
    /// The master of the terminal, if the caller serves it.
    pub terminal: Option<OwnedFd>,
}

/// The config.json the container was created from.
pub fn saved_spec(container: &Container) -> Result<Spec, ContainerError> {
    Ok(config::read_json(&container.dir.config())?)
}

/// Runs `process`; `at` is its JSON path for errors.
pub fn exec(
    container: &Container,
    process: &Process,
    spec: &Spec,
    options: &Options,
) -> Result<Executed, ContainerError> {
    match container.status() {
        Status::Stopped => return Err(ContainerError::Refused("cannot exec in a stopped container".into())),
        Status::Paused if !options.ignore_paused => {
            return Err(ContainerError::Refused(
                "cannot exec in a paused container (use --ignore-paused to override)".into(),
            ));
        }
        _ => {}
    }
    let mut plan = process::plan(process, "process")?;
    plan.limited_cpus =
        spec.linux.as_ref().and_then(|l| l.resources().as_ref()).is_some_and(process::limits_cpus);
    Host::detect().check_labels(&plan, None, "process")?;
    if plan.terminal && options.detach && options.console_socket.is_none() {
        return Err(ContainerError::Refused(
            "cannot allocate tty if runw will detach without setting console socket".into(),
        ));
    }
    let profile = spec.linux.as_ref().and_then(|l| l.seccomp().as_ref());
    let filter = profile
        .map(seccomp::compile)
        .transpose()
        .map_err(|e| config::ConfigError::invalid("linux.seccomp", e.to_string()))?;
    seccomp::report(filter.as_ref());
    plan.caps.report();
    let init = container
        .record
        .init
        .and_then(ProcessId::open)
        .ok_or_else(|| ContainerError::Refused("cannot exec in a stopped container".into()))?;
    let socket = options
        .console_socket
        .as_ref()
        .map(|path| {
            console::connect_path(path)
                .map_err(ContainerError::act(format!("connecting to console socket {}", path.display())))
        })
        .transpose()?;
    let joiner = sub_cgroups(&container.record.cgroup, &options.sub_cgroups)?.joiner()?;
    let placement = spec.linux.as_ref().map(placement::plan).transpose()?.unwrap_or_default();
    launch(container, spec, plan, placement, filter, joiner, init, socket, options)
}

/// The container's cgroup with the given ones below it, which have to exist, in place of its own directories.
fn sub_cgroups(own: &Paths, list: &[String]) -> Result<Cgroup, ContainerError> {
    let refuse = |why: String| ContainerError::Refused(format!("invalid --cgroup argument: {why}"));
    let mut paths = own.clone();
    let mut named = std::collections::HashSet::new();
    for text in list {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').collect(), path),
            None if list.len() > 1 => return Err(refuse(format!("{text} (missing <controller>: prefix)"))),
            None => (Vec::new(), text.as_str()),
        };
        let path = Path::new(path.trim_start_matches('/'));
        if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(refuse(format!("bad sub cgroup path: {text:?} leaves the container's")));
        }
        for controller in &controllers {
            if controller.is_empty() {
                return Err(refuse(format!("{text} (empty <controller> prefix)")));
            }
            if !named.insert((*controller).to_owned()) {
                return Err(refuse(format!("controller {controller} specified multiple times")));
            }
            if !paths.0.contains_key(*controller) {
                return Err(refuse(format!("unknown controller {controller} in {text:?}")));
            }
        }
        for (name, dir) in &mut paths.0 {
            if controllers.is_empty() || controllers.contains(&name.as_str()) {
                dir.push(path);
                if !dir.is_dir() {
                    return Err(refuse(format!(
                        "adding pid to {}: no such file or directory",
                        dir.display()
                    )));
                }
            }
        }
    }
    Ok(Cgroup::from_paths(&paths)?)
}

/// Where the container's first process has gone. An init that shares out its cgroup (systemd, a daemon of containers)
/// moves itself below it, and on version 2 a cgroup with controllers for its children takes no process of its own.
fn cgroup_of_init(container: &Container) -> Result<Cgroup, ContainerError> {
    let gone = || ContainerError::Refused("cannot exec in a stopped container".into());
    let pid = container.record.init.ok_or_else(gone)?.pid;
    let found = Cgroup::of_pid(&Hierarchies::detect()?, pid)?;
    let own = container.record.cgroup.0.get("");
    match (own, found.paths().0.get("")) {
        (Some(own), Some(below)) if below.starts_with(own) => Ok(found),
        _ => Err(ContainerError::Refused(
            "the container's cgroup takes no process, and its first process is not below it".into(),
        )),
    }
}

#[allow(clippy::too_many_arguments)]
fn launch(
    container: &Container,
    spec: &Spec,
    plan: ProcessPlan,
    placement: Placement,
    filter: Option<seccomp::Program>,
    mut joiner: Joiner,
    init: OwnedFd,
    socket: Option<OwnedFd>,
    options: &Options,
) -> Result<Executed, ContainerError> {
    let mut namespaces = Namespaces::from_bits(container.record.namespaces);
    let notifies = filter.as_ref().is_some_and(|f| f.notify);
    let script = Script {
        seccomp_listener: notifies,
        serves_terminal: plan.terminal && socket.is_none(),
        ..Script::default()
    };
    let pidfd_socket = pidfd_receiver(options.pidfd_socket.as_deref())?;
    let (mut channel, child_channel) = Channel::pair(script)?;
    let unprivileged = rootless::is_unprivileged();
    // while this process still is who systemd knows the user as
    let mut manager = match &container.record.unit {
        // without it the cgroup is entered or not
        Some(unit) if unprivileged => Bus::connect(unit.manager).ok().map(|bus| (unit, bus)),
        _ => None,
    };
    if unprivileged && namespaces.contains(Namespaces::USER) && !rootless::may_administer() {
        // who owns the user namespace may enter it, and only from there the others
        let first = Namespaces::from_bits(Namespaces::PID.bits() & namespaces.bits());
        setns(&init, Namespaces::USER.with(first))
            .map_err(ContainerError::act("entering the container's user namespace"))?;
        namespaces = namespaces.without(Namespaces::USER);
    } else if namespaces.contains(Namespaces::PID) {
        // applies to children only; this process forks once and then only waits
        setns(&init, Namespaces::PID)
            .map_err(ContainerError::act("entering the container's pid namespace"))?;
    }
    let into = |joiner: &Joiner| Fork { cgroup: joiner.clone_into(), ..Fork::default() }.fork();
    let mut attaching = false;
    let forked = match into(&joiner) {
        Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) && options.sub_cgroups.is_empty() => {
            joiner = cgroup_of_init(container)?.joiner()?;
            into(&joiner)
        }
        // from another cgroup of the user's, such as a login's, only systemd may move a process to a unit
        Err(e)
            if manager.is_some()
                && e.kind() == std::io::ErrorKind::PermissionDenied
                && options.sub_cgroups.is_empty() =>
        {
            attaching = true;
            Fork::default().fork()
        }
        other => other,
    };
    match forked.map_err(ContainerError::act("forking into the container's cgroup"))? {
        Forked::Child => {
            drop(channel);
            let child = Child {
                container,
                plan: &plan,
                placement: &placement,
                filter,
                joiner,
                init,
                namespaces,
                socket,
                options,
            };
            child.run(child_channel)
        }
        Forked::Parent { pid, pidfd } => {
            drop(child_channel);
            let attached = match &mut manager {
                Some((unit, bus)) if attaching => unit.attach_on(bus, pid).map_err(CgroupError::from),
                _ => Ok(()),
            };
            let served = attached.map_err(ContainerError::from).and_then(|()| {
                let terminal = serve(container, spec, &plan, &mut channel, pid, options)?;
                send_pidfd(pidfd_socket.as_ref(), &pidfd, "setns")?;
                channel.send(Step::Go, None)?;
                channel.executed()?;
                Ok(terminal)
            });
            match served {
                Ok(terminal) => Ok(Executed { pidfd, terminal }),
                Err(e) => {
                    // not there to stay; a failure to kill means that it is gone
                    let _ = wharf_sys::pidfd::send_signal(&pidfd, 9);
                    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
                    Err(e)
                }
            }
        }
    }
}

fn serve(
    container: &Container,
    spec: &Spec,
    plan: &ProcessPlan,
    channel: &mut Channel,
    pid: i32,
    options: &Options,
) -> Result<Option<OwnedFd>, ContainerError> {
    let terminal = channel.expect_fd(Step::Terminal)?;
    if let Some(listener) = channel.expect_fd(Step::Listener)? {
        let profile = spec.linux.as_ref().and_then(|l| l.seccomp().as_ref());
        let init = container.record.init.map_or(0, |p| p.pid);
        let state = HookState::of(&container.record).value("running", init);
        listener::hand_over(profile, &state, pid, &listener)?;
    }
    if let Some(rdt) = spec.linux.as_ref().map(rdt::plan).transpose()?.flatten() {
        let root = Path::new(crate::rdt::ROOT);
        let group = crate::rdt::group(root, &rdt, &container.record.id);
        crate::rdt::join(root, &group, pid)?;
    }
    channel.expect(Step::Ready)?;
    if !rootless::is_unprivileged() {
        oom_score(plan, pid)?;
    }
    if let Some(path) = &options.pid_file {
        write_pid_file(path, pid)
            .map_err(ContainerError::act(format!("writing pid file {}", path.display())))?;
    }
    Ok(terminal)
}

struct Child<'a> {
    container: &'a Container,
    plan: &'a ProcessPlan,
    placement: &'a Placement,
    filter: Option<seccomp::Program>,
    joiner: Joiner,
    init: OwnedFd,
    namespaces: Namespaces,
    socket: Option<OwnedFd>,
    options: &'a Options,
}

impl Child<'_> {
    fn run(mut self, mut channel: Channel) -> ! {
        let error = match self.become_process(&mut channel) {
            Err(e) => e,
            Ok(program) => program.exec().into(),
        };
        let _ = channel.fail(&error.0);
        exit_now(255)
    }

    fn become_process(&mut self, channel: &mut Channel) -> Result<Program, InitError> {
        let named = |name: &str, e: String| InitError(format!("{name}: {e}"));
        limits::raise(&self.plan.rlimits, None)?;
        if rootless::is_unprivileged() && self.plan.oom_score_adj.is_some() {
            // still outside of the container
            rootless::open().map_err(|e| named("making the process dumpable", e.to_string()))?;
            rootless::own_oom_score(self.plan.oom_score_adj)
                .map_err(|e| named("writing oom_score_adj", e.to_string()))?;
            rootless::close().map_err(|e| named("making the process undumpable", e.to_string()))?;
        }
        let affinity = &self.plan.affinity;
        affinity.before().map_err(|e| named("process.execCPUAffinity.initial", e.to_string()))?;
        self.joiner.join_self().map_err(|e| named("entering the cgroup", e.to_string()))?;
        affinity.after().map_err(|e| named("process.execCPUAffinity.final", e.to_string()))?;
        let rest = self.namespaces.without(Namespaces::PID);
        // entered already, or about to be
        let user_namespace = self.container.record.namespaces & Namespaces::USER.bits() != 0;
        setns(&self.init, rest).map_err(|e| named("entering the container's namespaces", e.to_string()))?;
        if user_namespace {
            let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
            rustix::thread::set_thread_res_gid(gid, gid, gid)
                .map_err(|e| named("setgid 0", e.to_string()))?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)
                .map_err(|e| named("setuid 0", e.to_string()))?;
        }
        rustix::process::setsid().map_err(|e| named("setsid", e.to_string()))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty())
            .map_err(|e| named("opening the root", e.to_string()))?;
        let root = Root::new(root);
        if self.plan.terminal {
            init::terminal(self.plan, &root, self.socket.take(), channel, false)?;
        }
        if self.plan.apparmor.is_some() || self.plan.selinux.is_some() {
            settle::labels(self.plan, &Proc::new()?)?;
        }
        self.placement.apply().map_err(|e| named("placing the process", e.to_string()))?;
        settle::keyring(&self.container.record.id)?;
        let (filter, kept) = (self.filter.as_ref(), self.options.preserve_fds);
        let program = settle::settle(self.plan, &root, user_namespace, filter, kept, channel)?;
        channel.send(Step::Ready, None)?;
        channel.expect(Step::Go)?;
        wharf_sys::signal::reset_all().map_err(|e| named("resetting signals", e.to_string()))?;
        limits::set(&self.plan.rlimits)?;
        let last = filter.filter(|f| !settle::is_loaded_early(self.plan, f));
        if last.is_some() || filter.is_none() {
            program::close_on_exec(kept)?;
        }
        program::pass_on(kept)?;
        settle::load_last(last)?;
        Ok(program)
    }
}
