//! Making a container: plan, claim, clone, serve init, record. Whatever fails is undone.

mod birth;
pub mod files;
pub mod listener;
mod place;
mod serve;
pub mod undo;
pub mod unit;
mod visit;

pub use self::place::{Entry, Showing, claim, copies_cgroups, device_rules};
pub use self::serve::oom_score;
use super::status::Container;
use super::{ContainerError, HookState};
use crate::cgroup_mount::CgroupView;
use crate::handshake::{Channel, Script, Step};
use crate::host::Host;
use crate::init::{self, Init, namespaces};
use crate::plan::{self, ContainerPlan};
use crate::spec::Spec;
use crate::state::{Record, StateRoot};
use crate::{config, console, idmap, notify, rootless, sources};
use birth::Birth;
use place::{Site, check_limits};
use serve::{pauses_when_mounted, poststart, serve};
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
        let site = Site { hierarchies: &hierarchies, cgroup_plan: &cgroup_plan, plan: &plan, options };
        let meanwhile = site.meanwhile();
        let place = site.prepare(held.as_ref(), &mut container, &mut undo)?;
        let view = Showing {
            paths: if container.record.cgroup.0.is_empty() {
                Cgroup::of_pid(&hierarchies, rustix::process::getpid().as_raw_nonzero().get())?.paths()
            } else {
                container.record.cgroup.clone()
            },
            mode: hierarchies.mode(),
        };
        let entry = place.entry()?;
        let cgroup_view = match &entry {
            _ if by_init => CgroupView::default(),
            Entry::Open(_) => view.prepare(&plan)?,
            Entry::Awaited => view.view(&plan),
        };
        let script = Script {
            maps_ids: plan.namespaces.clone.contains(Namespaces::USER),
            places: matches!(entry, Entry::Awaited),
            runtime_hooks: pauses_when_mounted(&plan),
            serves_terminal: plan.process.terminal && console_socket.is_none(),
            seccomp_listener: listener,
        };
        let (mut channel, init_channel) = Channel::pair(script)?;
        let binds = opened.as_ref().map(|o| o.binds.as_slice()).unwrap_or_default();
        let (mapper, id_mapper) = idmap::remote::pair(&plan, binds)
            .map_err(ContainerError::act("making a socket for id-mapped mounts"))?
            .unzip();
        let own_into = place.clone_into()?;
        let mut attaching = None;
        let observable = rootless::is_unprivileged();
        if observable {
            // init's mappings can only be written by its own user while it can be looked into
            rootless::open().map_err(ContainerError::act("making the runtime dumpable"))?;
        }
        let into = own_into.as_ref().map(AsFd::as_fd);
        let made = plan.namespaces.clone.without(meanwhile);
        let born = match birth::birth(&plan, made, &parent_joins, &user_join, into, &init_channel) {
            // from another cgroup of the user's, such as a login's, only systemd may move a process to a unit
            Err(e) if e.is_denied() && container.record.unit.is_some() => {
                attaching = container.record.unit.clone();
                birth::birth(&plan, made, &parent_joins, &user_join, None, &init_channel)?
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
                place.leave();
                drop((mapper, own_into, hierarchies, parent_joins, user_join, pidfd_socket));
                options.inherited.close(options.preserve_fds + options.listen_fds);
                let init = Init {
                    id,
                    plan: &plan,
                    sources: opened,
                    id_mapper,
                    devices: all_devices,
                    joins: init_joins,
                    unshares: meanwhile,
                    cgroup: Some(entry),
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
        let cgroup = site.complete(place, &mut container, &mut undo, &mut channel)?;
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
        Err(error) => Err(undo.run(ContainerError::during_init(error))),
    }
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
