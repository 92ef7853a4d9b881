//! Making a container of what a checkpoint has saved, through CRIU. Everything about the container is what config.json
//! in the bundle says: the images are data of whoever sent them. They give processes, and before these go on it is
//! checked that they have nothing which config.json does not give (CVE-2024-8676 and its like).

mod request;
mod stage;
mod verify;

use super::checkpoint::{EXTERNAL_NAMESPACES, OLDEST, open_dir, quote};
use super::create::{self, Created, Purpose, files, undo::Undo, unit};
use super::status::Container;
use super::{ContainerError, HookState};
use crate::criu::{self, Choices, Notice, Streams, Version, Worker};
use crate::host::Host;
use crate::pid::ProcessId;
use crate::plan::{self, ContainerPlan};
use crate::spec::Spec;
use crate::state::{Record, StateRoot};
use crate::{config, console, hooks};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use stage::Stage;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_cgroups::{Cgroup, Driver, Hierarchies, Plan as CgroupPlan};
use wharf_sys::inherit::Place;
use wharf_sys::namespace::Namespaces;

const LOG: &str = "restore.log";
/// The oldest CRIU that can give processes another label than they had.
const LABELS: u32 = 31_600;
/// CRIU leaves cgroups alone (enum criu_cg_mode).
const IGNORE: u64 = 0;

/// How to restore it, beside what a creation is told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub images: PathBuf,
    pub work: Option<PathBuf>,
    pub choices: Choices,
    /// TYPE:NAME.
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

/// What the worker's stops need and leave behind.
struct Progress<'a> {
    plan: &'a ContainerPlan,
    options: &'a Options,
    container: &'a mut Container,
    cgroup: &'a Cgroup,
    /// The mount namespace that CRIU was started in.
    stage: String,
    undo: &'a mut Undo,
    console: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    init: Option<(i32, OwnedFd)>,
}

/// Restores a container from images.
pub fn restore(
    root: &StateRoot,
    id: &str,
    how: &create::Options,
    options: &Options,
) -> Result<Created, ContainerError> {
    crate::state::check_id(id)?;
    let bundle = std::fs::canonicalize(&how.bundle)
        .map_err(ContainerError::act(format!("opening bundle {}", how.bundle.display())))?;
    let (text, spec): (Vec<u8>, Spec) = config::load(&bundle)?;
    let plan = plan::plan(&spec, &bundle, &Host::detect())?;
    create::check_terminal(&plan, how, Purpose::Run)?;
    check_namespaces(&plan)?;
    let version = criu::version()?;
    version.at_least(OLDEST)?;
    check_version(version, &plan, options)?;
    // a checkpoint is asked for before anything is made
    drop(open_images(&options.images)?);
    let console = match &how.console_socket {
        Some(path) => Some(
            console::connect_path(path)
                .map_err(ContainerError::act(format!("connecting to console socket {}", path.display())))?,
        ),
        None => None,
    };
    let pipes = request::pipes(&options.images)?;
    let hierarchies = Hierarchies::detect()?;
    let driver = if how.systemd_cgroup { Driver::Systemd } else { Driver::Cgroupfs };
    let cgroup_plan = CgroupPlan::new(&hierarchies, driver, plan.cgroups_path.as_deref().map(Path::new), id)?;

    // From here on there are effects; `undo` takes them back.
    let dir = root.create(id)?;
    let lock = dir.try_lock()?;
    if lock.is_none() {
        return Err(ContainerError::Refused(format!("container {id} is being deleted")));
    }
    let mut undo = Undo::new(dir.clone());
    let record = Record::begun(id, bundle, &plan, &cgroup_plan);
    let mut container = Container { dir, record };
    let result = (|| {
        container.dir.save(&container.record)?;
        container.dir.save_config(&text)?;
        let held = unit::start(&hierarchies, &cgroup_plan, id, &plan, &mut undo)?;
        let cgroup = Cgroup::create(&hierarchies, &cgroup_plan)?;
        create::claim(&cgroup, held.as_ref(), &mut container, &mut undo)?;
        cgroup.apply_devices(&create::device_rules(&plan))?;
        let mut message = request::options(options);
        let place = place(&cgroup, &plan, options)?;
        let mut stage = Stage::enter(&container.dir)?;
        let prepared = stage.prepare(&plan);
        let started = prepared.and_then(|rootfs| {
            // CRIU mounts in them: they have to be those of its own mount namespace
            let images = open_images(&options.images)?;
            message.number(1, images.as_raw_fd() as u64);
            let work = options.work.as_deref().map(open_dir).transpose()?;
            if let Some(work) = &work {
                message.number(17, work.as_raw_fd() as u64);
            }
            request::externals(&rootfs, &spec, &container.record, &mut message)?;
            let extra = request::namespaces(&plan, &mut message)?;
            Ok((Worker::start_in(Streams::Ours, extra, place)?, images, work))
        });
        let (mount_namespace, criu_root) = (stage.name(), stage.root().to_owned());
        stage.leave()?;
        // the directories stay open: it opens them by these descriptors
        let (worker, _images, _work) = started?;
        message.text(13, &criu_root.to_string_lossy());
        for pipe in &pipes {
            request::inherit(&mut message, &pipe.name, pipe.number);
        }
        cgroup.apply(&plan.resources)?;
        request::cgroup_roots(worker.pid(), &mut message)?;
        let mut progress = Progress {
            plan: &plan,
            options,
            container: &mut container,
            cgroup: &cgroup,
            stage: mount_namespace,
            undo: &mut undo,
            console,
            terminal: None,
            init: None,
        };
        worker
            .run(criu::RESTORE, &message, |notice| progress.stopped(notice))
            .inspect_err(|_| quote(&options.work.as_ref().unwrap_or(&options.images).join(LOG)))?;
        let Progress { init, terminal, .. } = progress;
        let (pid, pidfd) =
            init.ok_or_else(|| ContainerError::Refused("criu restored no process".to_owned()))?;
        unit::let_go(held, &plan)?;
        if let Some(path) = &how.pid_file {
            files::write_pid_file(path, pid)
                .map_err(ContainerError::act(format!("writing pid file {}", path.display())))?;
        }
        Ok((pidfd, terminal))
    })();
    match result {
        Ok((pidfd, terminal)) => {
            undo.disarm();
            // its mount was elsewhere
            if let Err(e) = std::fs::remove_dir(container.dir.path().join(stage::NAME)) {
                crate::log::warn(&format!("removing {}: {e}", stage::NAME));
            }
            Ok(Created { container, pidfd, terminal, notify: None })
        }
        Err(error) => Err(undo.run(error)),
    }
}

/// In the container's cgroup, where what CRIU makes is born. Told to leave cgroups alone it makes no namespace of them
/// either, and the container would see the host's.
fn place(cgroup: &Cgroup, plan: &ContainerPlan, options: &Options) -> Result<Place, ContainerError> {
    let mut cgroups = Vec::new();
    let dirs: std::collections::BTreeSet<PathBuf> = cgroup.paths().0.into_values().collect();
    for dir in dirs {
        let path = dir.join("cgroup.procs");
        let file = std::fs::OpenOptions::new().write(true).open(&path);
        cgroups.push(file.map_err(ContainerError::act(format!("opening {}", path.display())))?.into());
    }
    Ok(Place {
        cgroups,
        cgroup_namespace: plan.namespaces.unshare_cgroup && options.choices.cgroups_mode == IGNORE,
        // CRIU before 3.19 does not restore it
        no_new_privileges: plan.process.no_new_privileges,
    })
}

/// The directory with the images must be there, other than that of a checkpoint. CRIU follows links in it, also those by
/// the names of what it writes itself, and waits at pipes: of what somebody sent there may be only files and directories
/// (CVE-2026-53489 is a link in a checkpoint that leads to a file of the host).
fn open_images(path: &Path) -> Result<std::fs::File, ContainerError> {
    let failed = || ContainerError::act(format!("open {}", path.display()));
    let dir = std::fs::File::open(path).map_err(failed())?;
    for entry in std::fs::read_dir(path).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let kind = entry.file_type().map_err(failed())?;
        // CRIU's own: where the pages are that an earlier dump has saved
        let is_parent = kind.is_symlink() && entry.file_name() == "parent";
        if !kind.is_file() && !kind.is_dir() && !is_parent {
            return Err(ContainerError::Refused(format!(
                "{} is no file: a checkpoint has only files and directories",
                entry.path().display()
            )));
        }
    }
    Ok(dir)
}

/// CRIU knows no way to restore into a cgroup namespace that is there.
fn check_namespaces(plan: &ContainerPlan) -> Result<(), ContainerError> {
    let ns = &plan.namespaces;
    let joins = ns.init_joins.iter().chain(&ns.parent_joins);
    match joins.into_iter().find(|join| join.kind == Namespaces::CGROUP) {
        Some(_) => Err(ContainerError::Refused("Do not know how to handle namespace NEWCGROUP".into())),
        None => Ok(()),
    }
}

fn check_version(version: Version, plan: &ContainerPlan, options: &Options) -> Result<(), ContainerError> {
    let refuse = |text: String| Err(ContainerError::Refused(text));
    if version < Version(EXTERNAL_NAMESPACES)
        && let Some((name, _)) = request::inherited(plan).next()
    {
        return refuse(format!(
            "criu lacks support for external {name} namespace during the restoration process (old criu version?)"
        ));
    }
    for (given, flag) in [
        (options.lsm_profile.is_some(), "--lsm-profile"),
        (options.lsm_mount_context.is_some(), "--lsm-mount-context"),
    ] {
        if given && version < Version(LABELS) {
            return refuse(format!("{flag} requires at least CRIU 3.16"));
        }
    }
    Ok(())
}

impl Progress<'_> {
    fn stopped(&mut self, notice: Notice) -> Result<(), ContainerError> {
        match notice.script.as_str() {
            "setup-namespaces" => {
                let state = HookState::of(&self.container.record).json("creating", notice.pid);
                #[allow(deprecated)]
                hooks::run("prestart", self.plan.hooks.prestart().as_ref(), &state)?;
                hooks::run("createRuntime", self.plan.hooks.create_runtime().as_ref(), &state)?;
                Ok(())
            }
            "post-restore" => self.restored(notice.pid),
            "orphan-pts-master" => self.take_terminal(notice.fd),
            // the last stop before the processes go on: they have all that they will have
            "pre-resume" => {
                let Some((init, _)) = self.init else { return Ok(()) };
                let verified = verify::verify(self.plan, self.options, self.cgroup, init, &self.stage);
                if verified.is_err() {
                    // CRIU lets them go whatever it is told
                    self.cgroup.kill()?;
                }
                verified
            }
            _ => Ok(()),
        }
    }

    /// The first process is there: a child of this process, which CRIU has made its own sibling.
    fn restored(&mut self, pid: i32) -> Result<(), ContainerError> {
        let raw = Pid::from_raw(pid).ok_or(criu::CriuError::Malformed)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())
            .map_err(ContainerError::act("opening the restored process"))?;
        let copy = pidfd.try_clone().map_err(ContainerError::act("keeping the container's pidfd"))?;
        self.undo.process(copy);
        self.container.record.init = ProcessId::of(pid);
        if !self.plan.namespaces.private.contains(Namespaces::TIME) && verify::has_own_time(pid) {
            // CRIU makes one, so that clocks go on where they were; what is executed later belongs there too
            let with = self.plan.namespaces.private.with(Namespaces::TIME);
            self.container.record.namespaces = with.bits();
        }
        self.container.dir.save(&self.container.record)?;
        if let Some(rdt) = &self.plan.rdt {
            let container = &self.container;
            let root = Path::new(crate::rdt::ROOT);
            crate::rdt::apply(root, rdt, &container.record.id, pid, container.dir.path())?;
        }
        self.init = Some((pid, pidfd));
        Ok(())
    }

    /// To the console socket, or kept for whoever serves it.
    fn take_terminal(&mut self, master: Option<OwnedFd>) -> Result<(), ContainerError> {
        let master = master.ok_or(criu::CriuError::Malformed)?;
        match &self.console {
            Some(socket) => console::send_fd(socket, &master, b"orphan-pts-master")
                .map_err(ContainerError::act("sending the terminal to the console socket")),
            None if self.plan.process.terminal => {
                self.terminal = Some(master);
                Ok(())
            }
            None => Err(ContainerError::Refused(
                "the checkpoint has a terminal, which process.terminal does not ask for".into(),
            )),
        }
    }
}
