//! Making a container: plan, claim, clone, serve init, record. Whatever fails is undone.

mod birth;
pub mod files;
pub mod listener;
pub mod undo;
pub mod unit;
mod visit;

use super::status::Container;
use super::{ContainerError, HookState};
use crate::cgroup_mount::CgroupView;
use crate::handshake::{Channel, Script, Step};
use crate::host::Host;
use crate::idmap::remote::Mapper;
use crate::init::{self, Init, namespaces};
use crate::pid::ProcessId;
use crate::plan::{self, ContainerPlan};
use crate::sources::Source;
use crate::spec::Spec;
use crate::state::{Record, StateRoot};
use crate::{config, console, hooks, idmap, notify, rootless, sources};
use birth::Birth;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use undo::Undo;
use wharf_cgroups::{Cgroup, Driver, Hierarchies, Plan as CgroupPlan};
use wharf_sys::fds::Inherited;
use wharf_sys::namespace::Namespaces;

/// How a container is to be made, beside its config.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub bundle: PathBuf,
    pub console_socket: Option<PathBuf>,
    /// Gets a pidfd of the container's process, with the word `standard`.
    pub pidfd_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
    /// What the caller had open: not for a container that waits to be started.
    pub inherited: Inherited,
    /// LISTEN_FDS of the caller: sockets that come before the preserved descriptors.
    pub listen_fds: u32,
    pub systemd_cgroup: bool,
    /// The caller goes on to run the container in the foreground, and serves its terminal.
    pub detach: bool,
    /// The service manager's socket: the container gets one of its own, bound here for `run`, by `start` for `create`.
    pub notify_socket: Option<std::ffi::OsString>,
    /// A cgroup that this user may not make is done without, unless config.json names one or limits something.
    pub forgives_cgroups: bool,
}

/// Whether init waits for `start` or goes on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Create,
    Run,
}

/// A container that has been made.
#[derive(Debug)]
pub struct Created {
    pub container: Container,
    pub pidfd: OwnedFd,
    /// The master of the terminal, if the caller serves it.
    pub terminal: Option<OwnedFd>,
    /// The container's notification socket, if it has one and runs.
    pub notify: Option<OwnedFd>,
}

/// Reads the bundle and makes the container.
pub fn create(
    root: &StateRoot,
    id: &str,
    options: &Options,
    mode: Purpose,
) -> Result<Created, ContainerError> {
    crate::state::check_id(id)?;
    let bundle = std::fs::canonicalize(&options.bundle)
        .map_err(ContainerError::act(format!("opening bundle {}", options.bundle.display())))?;
    let (text, mut spec): (Vec<u8>, Spec) = config::load(&bundle)?;
    let notify_dir = std::path::absolute(notify::dir(root.any(id)?.path()))
        .map_err(ContainerError::act("finding the state directory"))?;
    if options.notify_socket.is_some() {
        notify::add_to(&mut spec, &notify_dir)
            .map_err(|e| ContainerError::Refused(format!("adding the notification socket: {e}")))?;
    }
    let mut plan = plan::plan(&spec, &bundle, &Host::detect())?;
    // its source is yet to be made; config.json may have it mounted over, but not before
    let notify_mount = options.notify_socket.as_ref().and_then(|_| plan.mounts.pop());
    check_terminal(&plan, options, mode)?;
    for fd in 3..3 + options.listen_fds + options.preserve_fds {
        if !wharf_sys::fds::is_open(fd as i32) {
            return Err(ContainerError::Refused(format!("--preserve-fds: descriptor {fd} is not open")));
        }
    }
    let seccomp = match &plan.seccomp {
        Some(profile) => Some(crate::seccomp::compile(profile).map_err(|e| {
            ContainerError::Config(config::ConfigError::invalid("linux.seccomp", e.to_string()))
        })?),
        None => None,
    };
    let listener = seccomp.as_ref().is_some_and(|s| s.notify);
    crate::seccomp::report(seccomp.as_ref());
    plan.process.caps.report();

    // Looked up before anything is made: what is missing on the host is an error that leaves nothing.
    let all_devices = crate::rootfs::devices::with_defaults(&plan.devices);
    // An ordinary user may not copy mounts: then init does it, in its own mount namespace.
    let by_init = rootless::init_makes_rootfs(&plan.namespaces);
    let mut opened = if by_init { None } else { Some(sources::open(&plan, &all_devices)?) };
    let init_joins = namespaces::open(&plan.namespaces.init_joins)?;
    let parent_joins = namespaces::open(&plan.namespaces.parent_joins)?;
    let user_join = namespaces::open(plan.namespaces.user_join.as_slice())?;
    let console_socket = match &options.console_socket {
        Some(path) => Some(
            console::connect_path(path)
                .map_err(ContainerError::act(format!("connecting to console socket {}", path.display())))?,
        ),
        None => None,
    };
    let pidfd_socket = files::pidfd_receiver(options.pidfd_socket.as_deref())?;
    let hierarchies = Hierarchies::detect()?;
    check_limits(&hierarchies, &plan)?;
    let driver = if options.systemd_cgroup { Driver::Systemd } else { Driver::Cgroupfs };
    let cgroup_plan = CgroupPlan::new(&hierarchies, driver, plan.cgroups_path.as_deref().map(Path::new), id)?;

    // From here on there are effects; `undo` takes them back.
    let dir = root.create(id)?;
    let mut lock = dir.try_lock()?;
    if lock.is_none() {
        return Err(ContainerError::Refused(format!("container {id} is being deleted")));
    }
    let mut undo = Undo::new(dir.clone());
    let mut notify_socket = None;
    if let Some(op) = notify_mount {
        let failed =
            || ContainerError::act(format!("making the notification socket in {}", notify_dir.display()));
        notify::make_dir(&notify_dir).map_err(failed())?;
        if mode == Purpose::Run {
            notify_socket = Some(notify::listen(&notify_dir).map_err(failed())?);
        }
        if let Some(opened) = &mut opened {
            opened.binds.push(sources::open_one(&op)?);
        }
        plan.mounts.push(op);
    }
    let record = Record::begun(id, bundle, &plan, &cgroup_plan);
    let mut container = Container { dir, record };
    let result = (|| {
        container.dir.save(&container.record)?;
        container.dir.save_config(&text)?;
        let fifo =
            if mode == Purpose::Create { Some(files::make_fifo(&container.dir.fifo())?) } else { None };
        let held = unit::start(&hierarchies, &cgroup_plan, id, &plan, &mut undo)?;
        let cgroup = make_cgroup(&hierarchies, &cgroup_plan, &plan, options)?;
        claim(&cgroup, held.as_ref(), &mut container, &mut undo)?;
        // while nobody is in it: v1 denies everything before it allows, and init could not make its devices meanwhile
        if !(options.forgives_cgroups && rootless::is_unprivileged()) {
            cgroup.apply_devices(&device_rules(&plan))?;
        }
        let view = Showing {
            paths: if container.record.cgroup.0.is_empty() {
                Cgroup::of_pid(&hierarchies, rustix::process::getpid().as_raw_nonzero().get())?.paths()
            } else {
                container.record.cgroup.clone()
            },
            mode: hierarchies.mode(),
        };
        let cgroup_view = if by_init { CgroupView::default() } else { view.prepare(&plan)? };
        let script = Script {
            maps_ids: plan.namespaces.clone.contains(Namespaces::USER),
            runtime_hooks: pauses_when_mounted(&plan),
            serves_terminal: plan.process.terminal && console_socket.is_none(),
            seccomp_listener: listener,
        };
        let (mut channel, init_channel) = Channel::pair(script)?;
        let binds = opened.as_ref().map(|o| o.binds.as_slice()).unwrap_or_default();
        let (mapper, id_mapper) = idmap::remote::pair(&plan, binds)
            .map_err(ContainerError::act("making a socket for id-mapped mounts"))?
            .unzip();
        let joiner = cgroup.joiner()?;
        let own_into = joiner
            .clone_into()
            .map(|fd| fd.try_clone_to_owned())
            .transpose()
            .map_err(ContainerError::act("cgroup"))?;
        let mut attaching = None;
        let observable = rootless::is_unprivileged();
        if observable {
            // init's mappings can only be written by its own user while it can be looked into
            rootless::open().map_err(ContainerError::act("making the runtime dumpable"))?;
        }
        let into = own_into.as_ref().map(AsFd::as_fd);
        let born = match birth::birth(&plan, &parent_joins, &user_join, into, &init_channel) {
            // from another cgroup of the user's, such as a login's, only systemd may move a process to a unit
            Err(e) if e.is_denied() && container.record.unit.is_some() => {
                attaching = container.record.unit.clone();
                birth::birth(&plan, &parent_joins, &user_join, None, &init_channel)?
            }
            other => other?,
        };
        let (pid, pidfd) = match born {
            Birth::Init => {
                drop(channel);
                if let Some(lock) = lock.take() {
                    lock.leave();
                }
                // the runtime's own, which would stay open until the program is executed
                drop((mapper, own_into, cgroup, hierarchies, parent_joins, user_join, pidfd_socket));
                options.inherited.close(options.preserve_fds + options.listen_fds);
                let init = Init {
                    id,
                    plan: &plan,
                    sources: opened,
                    id_mapper,
                    devices: all_devices,
                    joins: init_joins,
                    cgroup: Some(joiner),
                    cgroup_view,
                    showing: by_init.then_some(view),
                    shifts_clocks: by_init && !plan.time_offsets.is_empty(),
                    observable,
                    seccomp,
                    fifo,
                    console_socket,
                    no_pivot: options.no_pivot,
                    no_new_keyring: options.no_new_keyring,
                    preserve_fds: options.preserve_fds,
                    listen_fds: options.listen_fds,
                    state: HookState::of(&container.record),
                };
                init::run(init, init_channel)
            }
            Birth::Runtime { pid, pidfd } => (pid, pidfd),
        };
        if observable {
            rootless::close().map_err(ContainerError::act("making the runtime undumpable"))?;
        }
        undo.process(pidfd.try_clone().map_err(ContainerError::act("keeping the container's pidfd"))?);
        drop((init_channel, id_mapper));
        if let Some(unit) = attaching {
            unit.attach(pid)?;
        }
        let mapping = mapper.map(|m| (m, opened.as_ref().map(|o| o.binds.as_slice()).unwrap_or_default()));
        let terminal = serve(&plan, &mut container, &cgroup, &mut channel, mapping, pid, options)?;
        files::send_pidfd(pidfd_socket.as_ref(), &pidfd, "standard")?;
        unit::let_go(held, &plan)?;
        channel.send(Step::Go, None)?;
        if mode == Purpose::Run {
            channel.executed()?;
            poststart(&plan, &container, pid)?;
        }
        Ok((pidfd, terminal))
    })();
    match result {
        Ok((pidfd, terminal)) => {
            undo.disarm();
            Ok(Created { container, pidfd, terminal, notify: notify_socket })
        }
        Err(error) => Err(undo.run(error)),
    }
}

/// The parent's half of the handshake, up to Ready.
fn serve(
    plan: &ContainerPlan,
    container: &mut Container,
    cgroup: &Cgroup,
    channel: &mut Channel,
    mapping: Option<(Mapper, &[Option<Source>])>,
    pid: i32,
    options: &Options,
) -> Result<Option<OwnedFd>, ContainerError> {
    if plan.namespaces.clone.contains(Namespaces::USER) {
        idmap::map(pid, &plan.uid_mappings, &plan.gid_mappings)
            .map_err(ContainerError::act("mapping ids of the user namespace"))?;
    }
    if plan.namespaces.has_user() {
        // root of the namespace may not raise what the host has set
        crate::process::limits::raise(&plan.process.rlimits, Some(pid))?;
    }
    channel.send(Step::Mapped, None)?;
    cgroup.apply(&plan.resources).map_err(|e| limits_without_cgroup(e, &container.record))?;
    container.record.init = ProcessId::of(pid);
    container.dir.save(&container.record)?;
    let state = HookState::of(&container.record);
    if let Some(rdt) = &plan.rdt {
        let root = Path::new(crate::rdt::ROOT);
        crate::rdt::apply(root, rdt, &container.record.id, pid, container.dir.path())?;
    }
    if let Some((mapper, binds)) = mapping {
        mapper.serve(plan, binds).map_err(ContainerError::act("id-mapping mounts for init"))?;
    }
    channel.expect(Step::Mounted)?;
    crate::net_devices::attach(&plan.net_devices, Path::new(&format!("/proc/{pid}/ns/net")))?;
    if has_runtime_hooks(plan) {
        let json = state.json("creating", pid);
        #[allow(deprecated)]
        hooks::run("prestart", plan.hooks.prestart().as_ref(), &json)?;
        hooks::run("createRuntime", plan.hooks.create_runtime().as_ref(), &json)?;
    }
    channel.send(Step::HooksDone, None)?;
    let terminal = channel.expect_fd(Step::Terminal)?;
    if let Some(listener) = channel.expect_fd(Step::Listener)? {
        listener::hand_over(plan.seccomp.as_ref(), &state.value("creating", pid), pid, &listener)?;
    }
    channel.expect(Step::Ready)?;
    if !rootless::is_unprivileged() {
        oom_score(&plan.process, pid)?;
    }
    if let Some(path) = &options.pid_file {
        files::write_pid_file(path, pid)
            .map_err(ContainerError::act(format!("writing pid file {}", path.display())))?;
    }
    Ok(terminal)
}

/// Makes the cgroup, for a user who may not and whose config.json does not name one as far as it can be made.
fn make_cgroup(
    hierarchies: &Hierarchies,
    cgroup_plan: &CgroupPlan,
    plan: &ContainerPlan,
    options: &Options,
) -> Result<Cgroup, ContainerError> {
    let forgives = options.forgives_cgroups && plan.cgroups_path.is_none();
    let forgiven = |e: &wharf_cgroups::CgroupError| {
        let forgiven = forgives && rootless::is_forgivable(e);
        if forgiven {
            crate::log::debug(|| format!("going on without a cgroup: {e}"));
        }
        forgiven
    };
    Ok(Cgroup::create_forgiving(hierarchies, cgroup_plan, forgiven)?)
}

/// Takes a cgroup for the container, unless others have it or nothing could run in it.
pub fn claim(
    cgroup: &Cgroup,
    held: Option<&unit::Held>,
    container: &mut Container,
    undo: &mut Undo,
) -> Result<(), ContainerError> {
    container.record.cgroup = cgroup.paths();
    // undoing and deleting kill all that is in the cgroup: it must be nobody else's
    let others = unit::others(held, cgroup)?;
    if others > 0 {
        return Err(ContainerError::Refused(format!(
            "container's cgroup is not empty: {others} process(es) found"
        )));
    }
    // init would stop in it for ever, and with it whoever waits for init
    let is_frozen = matches!(cgroup.frozen(), Ok(true));
    undo.cgroup_may_exist(if is_frozen { cgroup.made() } else { container.record.cgroup.clone() });
    if is_frozen {
        return Err(ContainerError::Refused("container's cgroup unexpectedly frozen".to_owned()));
    }
    Ok(())
}

/// Contradictions in limits are found before anything has been made.
fn check_limits(hierarchies: &Hierarchies, plan: &ContainerPlan) -> Result<(), ContainerError> {
    use wharf_cgroups::CgroupError;
    wharf_cgroups::check(hierarchies.mode(), &plan.resources).map_err(|e| match e {
        CgroupError::Invalid { field, reason } => config::ConfigError::invalid(field, reason).into(),
        e => e.into(),
    })
}

fn limits_without_cgroup(error: wharf_cgroups::CgroupError, record: &Record) -> ContainerError {
    match error {
        wharf_cgroups::CgroupError::MissingController { controller, .. }
            if !record.cgroup.0.contains_key("") && !record.cgroup.0.contains_key(&controller)
                || record.cgroup.0.is_empty() =>
        {
            ContainerError::Refused(format!(
                "cannot set {controller} limit: container could not join or create cgroup"
            ))
        }
        e => e.into(),
    }
}

/// The cgroup directories that a mount of type `cgroup` is to show.
#[derive(Debug)]
pub struct Showing {
    paths: wharf_cgroups::Paths,
    mode: wharf_cgroups::Mode,
}

impl Showing {
    pub fn prepare(&self, plan: &ContainerPlan) -> Result<CgroupView, crate::rootfs::RootfsError> {
        if !plan.mounts.iter().any(|m| m.kind == plan::mounts::MountKind::Cgroup) {
            return Ok(CgroupView::default());
        }
        CgroupView::prepare(&self.paths, self.mode, plan.namespaces.unshare_cgroup)
    }
}

/// Writes a process's OOM score, which after a change of user it could not do itself.
pub fn oom_score(process: &plan::process::ProcessPlan, pid: i32) -> Result<(), ContainerError> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(&path, score.to_string())
        .map_err(ContainerError::act(format!("writing {score} to {path}")))
}

/// The rules of config.json, and after them those without which the default devices would not work.
pub fn device_rules(plan: &ContainerPlan) -> Vec<oci_spec::runtime::LinuxDeviceCgroup> {
    let mut rules = plan.resources.devices().clone().unwrap_or_default();
    rules.extend(wharf_cgroups::devices::default_rules());
    rules
}

fn has_runtime_hooks(plan: &ContainerPlan) -> bool {
    #[allow(deprecated)]
    let prestart = plan.hooks.prestart();
    [prestart, plan.hooks.create_runtime()].into_iter().flatten().any(|list| !list.is_empty())
}

/// Init waits where hooks, or what moves interfaces into its network, come before its own hooks and its program.
fn pauses_when_mounted(plan: &ContainerPlan) -> bool {
    has_runtime_hooks(plan) || !plan.net_devices.is_empty()
}

pub fn check_terminal(plan: &ContainerPlan, options: &Options, mode: Purpose) -> Result<(), ContainerError> {
    let detached = mode == Purpose::Create || options.detach;
    let refuse = |text: &str| Err(ContainerError::Refused(text.to_owned()));
    match (plan.process.terminal, options.console_socket.is_some()) {
        (true, false) if detached => {
            refuse("cannot allocate tty if runw will detach without setting console socket")
        }
        (_, true) if !detached => refuse("cannot use console socket if runw will not detach or allocate tty"),
        (false, true) => refuse("cannot use console socket if runw will not detach or allocate tty"),
        _ => Ok(()),
    }
}

fn poststart(plan: &ContainerPlan, container: &Container, pid: i32) -> Result<(), ContainerError> {
    let state = HookState::of(&container.record).json("running", pid);
    Ok(hooks::run("poststart", plan.hooks.poststart().as_ref(), &state)?)
}
