//! The container's first process between its clone and its program: everything it does to itself and its namespaces.
//!
//! The order is the protocol with the runtime ([`crate::handshake`]) and the safety argument: mounts come from
//! descriptors opened before the clone, nothing of the image runs, devices and console are made when the host's root
//! is gone, privileges go last, and every failure is sent up by name.

pub mod namespaces;
pub mod settle;

use crate::cgroup_mount::CgroupView;
use crate::console::{self, Pty};
use crate::container::create::{Entry, copies_cgroups};
use crate::handshake::{Channel, Step};
use crate::hooks;
use crate::idmap::remote::Asker;
use crate::plan::ContainerPlan;
use crate::plan::devices::Device;
use crate::plan::mounts::{MountKind, MountOp};
use crate::plan::process::ProcessPlan;
use crate::process::limits;
use crate::process::program::{Program, close_on_exec, pass_on};
use crate::rootfs::procfs::{Descriptors, Proc};
use crate::rootfs::resolve::{Root, Target};
use crate::rootfs::{devices, mask, mount, pivot};
use crate::rootless;
use crate::seccomp::Program as Filter;
use crate::sources::{self, Sources};
use namespaces::Entered;
use rustix::fs::{Mode, OFlags};
use settle::{is_loaded_early, keyring, labels, load_last, settle};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wharf_cgroups::Joiner;
use wharf_sys::namespace::Namespaces;

/// Everything init needs, gathered before it exists.
#[derive(Debug)]
pub struct Init<'a> {
    pub id: &'a str,
    pub plan: &'a ContainerPlan,
    /// None: the runtime had no right to, and init opens them itself.
    pub sources: Option<Sources>,
    pub devices: Vec<Device>,
    /// Only where init cannot id-map by itself.
    pub id_mapper: Option<Asker>,
    pub joins: Vec<Entered>,
    /// Namespaces that the clone has left to init.
    pub unshares: Namespaces,
    /// Until init has entered it.
    pub cgroup: Option<Entry>,
    pub cgroup_view: CgroupView,
    /// What init prepares the view of, where the runtime could not.
    pub showing: Option<crate::container::create::Showing>,
    /// The runtime had no right to give the container's clocks their offsets.
    pub shifts_clocks: bool,
    /// Others of the same user may look into this process until its ids are mapped.
    pub observable: bool,
    pub seccomp: Option<Filter>,
    /// O_PATH; None for `run`, which goes on by itself.
    pub fifo: Option<OwnedFd>,
    pub console_socket: Option<OwnedFd>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
    /// LISTEN_FDS of the caller.
    pub listen_fds: u32,
    /// State for hooks, as JSON with a place for pid and status.
    pub state: crate::container::HookState<'a>,
}

/// A step of init that failed; its text goes to the runtime.
#[derive(Debug)]
pub struct InitError(pub String);

impl<E: std::error::Error> From<E> for InitError {
    fn from(e: E) -> Self {
        let mut text = e.to_string();
        let mut source = e.source();
        while let Some(s) = source {
            let more = s.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            source = s.source();
        }
        Self(text)
    }
}

fn step(name: &str) -> impl FnOnce(InitError) -> InitError {
    let name = name.to_owned();
    move |e| InitError(format!("{name}: {}", e.0))
}

/// Puts the name of the step in front of its error.
fn named<T, E: Into<InitError>>(name: &str, result: Result<T, E>) -> Result<T, InitError> {
    result.map_err(|e| step(name)(e.into()))
}

/// Runs init to its end, which is the program or an error sent to the runtime.
pub fn run(mut init: Init<'_>, mut channel: Channel) -> ! {
    let error = match prepare(&mut init, &mut channel) {
        Err(e) => e,
        Ok((program, root, own)) => finish(init, &mut channel, program, root, own),
    };
    // the runtime may be gone by now; then there is nobody to tell
    let _ = channel.fail(&error.0);
    wharf_sys::fork::exit_now(255)
}

fn prepare(
    init: &mut Init<'_>,
    channel: &mut Channel,
) -> Result<(Program, Root, Option<Descriptors>), InitError> {
    let plan = init.plan;
    if init.observable {
        named("making init dumpable", rootless::open())?;
        named("writing oom_score_adj", rootless::own_oom_score(plan.process.oom_score_adj))?;
    }
    channel.expect(Step::Mapped)?;
    if init.shifts_clocks {
        // files of an undumpable process are the host's root's
        namespaces::shift_clocks(&plan.time_offsets)?;
        namespaces::follow_clocks()?;
    }
    if init.observable {
        named("making init undumpable", rootless::close())?;
    }
    if let Some(Entry::Open(joiner)) = init.cgroup.take_if(|entry| matches!(entry, Entry::Open(_))) {
        enter_cgroup(&joiner)?;
    }
    // by the runtime's user, who may get to paths that the root of the namespace may not
    if init.sources.is_none() && plan.namespaces.builds_rootfs() {
        init.sources = Some(named("opening mounts", crate::sources::open(plan, &init.devices))?);
    }
    if let Some(showing) = init.showing.take() {
        init.cgroup_view = named("opening cgroups", showing.prepare(plan))?;
    }
    named("becoming root of the user namespace", namespaces::become_root(&plan.namespaces))?;
    if init.unshares != Namespaces::default() {
        named("creating the container's namespaces", wharf_sys::namespace::unshare(init.unshares))?;
    }
    named("entering namespaces", namespaces::enter(std::mem::take(&mut init.joins)))?;
    if init.cgroup.is_none() {
        own_cgroup_namespace(plan)?;
    }
    named("setsid", rustix::process::setsid())?;
    if plan.namespaces.clone.contains(Namespaces::NET) {
        named("setting the loopback interface up", wharf_sys::netif::loopback_up())?;
    }
    rustix::process::umask(Mode::empty());
    let (root, procfs) = match plan.namespaces.builds_rootfs() {
        true => build_root(init, channel)?,
        false => (open_root()?, None),
    };
    settings(init)?;
    let own = match &init.fifo {
        Some(_) => Some(named("opening the descriptors of init", Descriptors::open(procfs.as_ref()))?),
        None => None,
    };
    let program = become_process(init, &root, channel)?;
    Ok((program, root, own))
}

fn enter_cgroup(joiner: &Joiner) -> Result<(), InitError> {
    named("entering the cgroup", joiner.join_self())?;
    named("allowing the cgroup's CPUs", crate::plan::affinity::release())
}

/// Its root is the cgroup that init is in by then.
fn own_cgroup_namespace(plan: &ContainerPlan) -> Result<(), InitError> {
    match plan.namespaces.unshare_cgroup {
        true => named("making the cgroup namespace", wharf_sys::namespace::unshare(Namespaces::CGROUP)),
        false => Ok(()),
    }
}

/// Enters the cgroup that the runtime has been making, if init is not in it yet.
fn follow_cgroup(init: &mut Init<'_>, channel: &mut Channel) -> Result<(), InitError> {
    let Some(mut files) = channel.expect_fds(Step::Placed)? else { return Ok(()) };
    let copies = if copies_cgroups(init.plan) { init.cgroup_view.len() } else { 0 };
    let joins = files.len().checked_sub(copies).filter(|joins| *joins > 0).ok_or_else(|| {
        let came = files.len();
        InitError(format!("entering the cgroup: {came} descriptor(s) came, {copies} of them to be shown"))
    })?;
    init.cgroup_view.fill(files.split_off(joins));
    init.cgroup = None;
    enter_cgroup(&Joiner::of_tasks(files))?;
    own_cgroup_namespace(init.plan)
}

fn open_root() -> Result<Root, InitError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Root::new(named("opening the root", rustix::fs::open("/", flags, Mode::empty()))?))
}

/// Mounts, pivots, makes devices and console, masks. Returns the root and, if one was mounted, its procfs.
fn build_root(init: &mut Init<'_>, channel: &mut Channel) -> Result<(Root, Option<Root>), InitError> {
    let plan = init.plan;
    let mut sources = init.sources.take().ok_or_else(|| InitError("no mounts were opened".into()))?;
    let rootfs = &sources.rootfs.fd;
    named("mounting the root filesystem", pivot::stack(rootfs, &plan.rootfs))?;
    let fd = named("opening the root filesystem", rootfs.try_clone())?;
    let root = Root::new(fd);
    // what neither shows the cgroup nor fills memory, which is to be charged to it, need not wait for it
    let waits = |m: &MountOp| matches!(m.kind, MountKind::Cgroup | MountKind::Fs { copy_up: true, .. });
    let before = plan.mounts.iter().position(waits).unwrap_or(plan.mounts.len());
    let (mounts, rest) = plan.mounts.split_at(before);
    let opened = sources.binds.len();
    let (binds, rest_binds) = sources.binds.split_at_mut(before.min(opened));
    let keep_shared = sources::keep_shared(plan);
    let id_mapper = init.id_mapper.take();
    let with = mount::Materials {
        binds,
        cgroups: &mut init.cgroup_view,
        id_mapper: id_mapper.as_ref(),
        keep_shared,
    };
    let mut late = named("mounting", mount::execute(&root, mounts, with))?;
    follow_cgroup(init, channel)?;
    let with = mount::Materials {
        binds: rest_binds,
        cgroups: &mut init.cgroup_view,
        id_mapper: id_mapper.as_ref(),
        keep_shared,
    };
    late.extend(named("mounting", mount::execute(&root, rest, with))?);
    drop(id_mapper);
    channel.send(Step::Mounted, None)?;
    channel.expect(Step::HooksDone)?;
    let state = || init.state.json("creating", rustix::process::getpid().as_raw_nonzero().get());
    if plan.hooks.create_container().is_some() {
        named("entering the root filesystem", rustix::process::fchdir(&root))?;
        hooks::run("createContainer", plan.hooks.create_container().as_ref(), &state())?;
    }
    if init.no_pivot {
        named("moving to the root filesystem", pivot::move_root(root.as_fd()))?;
    } else {
        named("pivoting to the root filesystem", pivot::pivot(root.as_fd()))?;
    }
    // a /dev that is bound from the host has its devices already, and they are not ours to add to
    if !binds_dev(plan) {
        named("making devices", devices::make(&root, &init.devices, &mut sources.devices))?;
        named("linking devices", devices::links(&root))?;
    }
    if plan.process.terminal {
        terminal(&plan.process, &root, init.console_socket.take(), channel, true)?;
    }
    // the working directory is made while the root is still writable
    named("creating the working directory", root.ensure(&plan.process.cwd, Target::Directory))?;
    named("making mounts read-only", mount::finish(late))?;
    named("sealing the root", pivot::seal(&root, plan.root_propagation, plan.readonly_root))?;
    let has_procfs = plan.mounts.iter().any(MountOp::is_procfs);
    let proc = named("opening /proc", mask::procfs(&root, has_procfs))?;
    named("making paths read-only", mask::read_only(&root, proc.as_ref(), &plan.readonly))?;
    named("masking paths", mask::mask(&root, proc.as_ref(), &plan.masked))?;
    Ok((root, proc.filter(|_| has_procfs)))
}

fn binds_dev(plan: &ContainerPlan) -> bool {
    plan.mounts.iter().any(|m| m.target == Path::new("/dev") && matches!(m.kind, MountKind::Bind { .. }))
}

/// Opens the terminal, hands its master out and takes its slave.
pub fn terminal(
    process: &ProcessPlan,
    root: &Root,
    socket: Option<OwnedFd>,
    channel: &mut Channel,
    console: bool,
) -> Result<(), InitError> {
    let pty = named("opening a terminal", Pty::open(root))?;
    if let Some(size) = process.console_size {
        named("setting the size of the terminal", pty.resize(size))?;
    }
    if console {
        named("mounting the console", pty.mount_console(root))?;
    }
    match socket {
        Some(socket) => named(
            "sending the terminal to the console socket",
            console::send_fd(&socket, &pty.master, b"/dev/ptmx"),
        )?,
        None => {
            named("setting the modes of the terminal", pty.keep_newlines())?;
            channel.send(Step::Terminal, Some(pty.master.as_fd()))?;
        }
    }
    named("taking the terminal", pty.take())
}

/// Names, kernel settings and labels of the namespaces.
fn settings(init: &Init<'_>) -> Result<(), InitError> {
    let plan = init.plan;
    if let Some(name) = &plan.hostname {
        named("sethostname", rustix::system::sethostname(name.as_bytes()))?;
    }
    if let Some(name) = &plan.domainname {
        named("setdomainname", rustix::system::setdomainname(name.as_bytes()))?;
    }
    let needed = !plan.sysctl.is_empty() || plan.process.apparmor.is_some() || plan.process.selinux.is_some();
    if needed {
        let proc = named("opening a private procfs", Proc::new())?;
        for (path, value) in &plan.sysctl {
            named(&format!("sysctl {path}"), proc.write(&format!("sys/{path}"), value.as_bytes()))?;
        }
        labels(&plan.process, &proc)?;
    }
    Ok(())
}

fn become_process(init: &mut Init<'_>, root: &Root, channel: &mut Channel) -> Result<Program, InitError> {
    let plan = init.plan;
    if !init.no_new_keyring {
        keyring(init.id)?;
    }
    named("placing the process", plan.placement.apply())?;
    let kept = init.preserve_fds + init.listen_fds;
    let mut program =
        settle(&plan.process, root, plan.namespaces.has_user(), init.seccomp.as_ref(), kept, channel)?;
    if init.listen_fds > 0 {
        program.add_env(&format!("LISTEN_FDS={}", init.listen_fds));
        program.add_env("LISTEN_PID=1");
    }
    Ok(program)
}

fn finish(
    init: Init<'_>,
    channel: &mut Channel,
    program: Program,
    _root: Root,
    own: Option<Descriptors>,
) -> InitError {
    match last_steps(&init, channel, &program, own) {
        Err(e) => e,
        Ok(()) => {
            let error = program.exec();
            if init.fifo.is_some() {
                // `create` has returned long since; who looks into the container's output finds it there, as with runc
                let _ = rustix::io::write(rustix::stdio::stderr(), format!("{error}\n").as_bytes());
            }
            error.into()
        }
    }
}

fn last_steps(
    init: &Init<'_>,
    channel: &mut Channel,
    program: &Program,
    own: Option<Descriptors>,
) -> Result<(), InitError> {
    if init.fifo.is_some() {
        // before `create` can return
        named("letting signals end init", wharf_sys::signal::end_on(&ENDING))?;
    }
    channel.send(Step::Ready, None)?;
    channel.expect(Step::Go)?;
    if let (Some(fifo), Some(own)) = (&init.fifo, &own) {
        wait_for_start(fifo, own)?;
    }
    let kept = init.preserve_fds + init.listen_fds;
    let mut filter = init.seccomp.as_ref();
    if filter.is_some_and(|f| is_loaded_early(&init.plan.process, f)) {
        filter = None;
    } else {
        close_on_exec(kept)?;
    }
    if let Some(list) = init.plan.hooks.start_container().as_ref().filter(|list| !list.is_empty()) {
        // in the container, so that what the process would see is what it sees, and under its filter, as with runc
        load_last(filter.take())?;
        let state = init.state.json("created", rustix::process::getpid().as_raw_nonzero().get());
        hooks::run_with("startContainer", Some(list), &program.env(), &state)?;
    }
    named("resetting signals", wharf_sys::signal::reset_all())?;
    named("setting limits", limits::set(&init.plan.process.rlimits))?;
    pass_on(kept)?;
    load_last(filter)
}

/// Signals that end a container which waits to be started, as they end runc's: HUP, INT, QUIT, TERM. Without a handler
/// the first process of a pid namespace does not take them.
const ENDING: [i32; 4] = [1, 2, 3, 15];

/// Blocks in opening the fifo until `start` opens its other end.
fn wait_for_start(fifo: &OwnedFd, own: &Descriptors) -> Result<(), InitError> {
    let file = named("opening the exec fifo", own.reopen(fifo, OFlags::WRONLY))?;
    named("writing to the exec fifo", rustix::io::write(&file, b"0"))?;
    Ok(())
}
