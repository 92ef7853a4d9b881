//! The container's cgroup: made before init is born or, where that may be, while init makes its namespaces.

use super::{Options, undo::Undo, unit};
use crate::cgroup_mount::CgroupView;
use crate::config;
use crate::container::ContainerError;
use crate::container::status::Container;
use crate::handshake::{Channel, MAX_FDS, Step};
use crate::plan::ContainerPlan;
use crate::plan::mounts::MountKind;
use crate::rootfs::RootfsError;
use crate::rootless;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wharf_cgroups::{Cgroup, CgroupError, Hierarchies, Joiner, Making, Mode, Plan as CgroupPlan};
use wharf_sys::namespace::Namespaces;

/// How far the cgroup is when init is born.
#[derive(Debug)]
pub enum Place<'a> {
    Made(Cgroup),
    /// Version 2's directory is there at most.
    Begun(Making<'a>),
}

/// How init gets into its cgroup.
#[derive(Debug)]
pub enum Entry {
    /// By files that it has.
    Open(Joiner),
    /// By files that come with [`Step::Placed`], and with them the directories that it is to show.
    Awaited,
}

/// What a cgroup is made of.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    pub hierarchies: &'a Hierarchies,
    pub cgroup_plan: &'a CgroupPlan,
    pub plan: &'a ContainerPlan,
    pub options: &'a Options,
}

impl<'a> Site<'a> {
    /// The namespaces that init makes by itself while the runtime makes its cgroup; none where the cgroup comes first:
    ///
    /// - on version 2 alone it is one directory, and who is in there makes it look taken;
    /// - in another user namespace init loses the right to enter it;
    /// - what cannot be made may be forgiven, or has to be asked of systemd.
    pub fn meanwhile(self) -> Namespaces {
        let plain = self.hierarchies.mode() != Mode::Unified
            && self.cgroup_plan.unit().is_none()
            && self.cgroup_plan.paths().0.len() <= MAX_FDS / 2
            && !rootless::is_unprivileged()
            && !rootless::in_user_namespace();
        let names = &self.plan.namespaces;
        match plain && !names.has_user() && names.builds_rootfs() {
            // pid and time namespaces are only for children, and the intermediate process of a user namespace is not wanted
            // here
            true => names.clone.without(Namespaces::PID.with(Namespaces::TIME)),
            false => Namespaces::default(),
        }
    }

    /// Makes the cgroup, or begins to.
    pub fn prepare(
        self,
        held: Option<&unit::Held>,
        container: &mut Container,
        undo: &mut Undo,
    ) -> Result<Place<'a>, ContainerError> {
        if self.meanwhile() == Namespaces::default() {
            return Ok(Place::Made(self.occupy(self.make()?, held, container, undo)?));
        }
        let making = Cgroup::begin(self.hierarchies, self.cgroup_plan)?;
        undo.cgroup_may_exist(making.made());
        Ok(Place::Begun(making))
    }

    /// Makes the cgroup, for a user who may not and whose config.json does not name one as far as it can be made.
    fn make(self) -> Result<Cgroup, ContainerError> {
        let forgives = self.options.forgives_cgroups && self.plan.cgroups_path.is_none();
        let forgiven = |e: &CgroupError| {
            let forgiven = forgives && rootless::is_forgivable(e);
            if forgiven {
                crate::log::debug(|| format!("going on without a cgroup: {e}"));
            }
            forgiven
        };
        Ok(Cgroup::create_forgiving(self.hierarchies, self.cgroup_plan, forgiven)?)
    }

    /// Takes it for the container.
    fn occupy(
        self,
        cgroup: Cgroup,
        held: Option<&unit::Held>,
        container: &mut Container,
        undo: &mut Undo,
    ) -> Result<Cgroup, ContainerError> {
        claim(&cgroup, held, container, undo)?;
        // while nobody is in it: v1 denies everything before it allows, and init could not make its devices meanwhile
        if !(self.options.forgives_cgroups && rootless::is_unprivileged()) {
            cgroup.apply_devices(&device_rules(self.plan))?;
        }
        Ok(cgroup)
    }

    /// Once init is born: makes what is missing, and hands init what it needs to get there.
    pub fn complete(
        self,
        place: Place<'a>,
        container: &mut Container,
        undo: &mut Undo,
        channel: &mut Channel,
    ) -> Result<Cgroup, ContainerError> {
        let mut making = match place {
            Place::Made(cgroup) => return Ok(cgroup),
            Place::Begun(making) => making,
        };
        let made = making.finish(|_| false);
        if made.is_err() {
            // what has been made is removed with `making`, and init, which was born in version 2's directory, keeps that
            for problem in undo.end_process() {
                crate::log::warn(&problem);
            }
        }
        let cgroup = self.occupy(made?, None, container, undo)?;
        let joiner = cgroup.joiner()?;
        let mut view = CgroupView::default();
        if copies_cgroups(self.plan) {
            view = CgroupView::of(&container.record.cgroup, self.hierarchies.mode());
            view.open()?;
        }
        let fds: Vec<BorrowedFd<'_>> = joiner.tasks().iter().map(AsFd::as_fd).chain(view.trees()).collect();
        channel.send_fds(Step::Placed, &fds)?;
        Ok(cgroup)
    }
}

impl Place<'_> {
    /// Version 2's directory, for init to be born in.
    pub fn clone_into(&self) -> Result<Option<OwnedFd>, ContainerError> {
        let fd = match self {
            Place::Made(cgroup) => cgroup.unified_fd(),
            Place::Begun(making) => making.clone_into(),
        };
        fd.map(|fd| fd.try_clone_to_owned()).transpose().map_err(ContainerError::act("cgroup"))
    }

    /// In init: closes what is open; what was made is the runtime's to keep or remove.
    pub fn leave(self) {
        if let Place::Begun(making) = self {
            making.leave();
        }
    }

    pub fn entry(&self) -> Result<Entry, ContainerError> {
        Ok(match self {
            Place::Made(cgroup) => Entry::Open(cgroup.joiner()?),
            Place::Begun(_) => Entry::Awaited,
        })
    }
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
    // (a known limit: the init of a container that is being made beside this one is in version 1's freezer, where processes
    // are looked for, only once its mounts are made)
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
pub fn check_limits(hierarchies: &Hierarchies, plan: &ContainerPlan) -> Result<(), ContainerError> {
    wharf_cgroups::check(hierarchies.mode(), &plan.resources).map_err(|e| match e {
        CgroupError::Invalid { field, reason } => config::ConfigError::invalid(field, reason).into(),
        e => e.into(),
    })
}

/// Whether the container is to see copies of its cgroup's directories, which have to be made outside.
pub fn copies_cgroups(plan: &ContainerPlan) -> bool {
    !plan.namespaces.unshare_cgroup && shows_cgroups(plan)
}

fn shows_cgroups(plan: &ContainerPlan) -> bool {
    plan.mounts.iter().any(|m| m.kind == MountKind::Cgroup)
}

/// The cgroup directories that a mount of type `cgroup` is to show.
#[derive(Debug)]
pub struct Showing {
    pub paths: wharf_cgroups::Paths,
    pub mode: Mode,
}

impl Showing {
    /// The directories, still to be opened.
    pub fn view(&self, plan: &ContainerPlan) -> CgroupView {
        match shows_cgroups(plan) {
            true => CgroupView::of(&self.paths, self.mode),
            false => CgroupView::default(),
        }
    }

    /// The directories, opened if the container needs that.
    pub fn prepare(&self, plan: &ContainerPlan) -> Result<CgroupView, RootfsError> {
        let mut view = self.view(plan);
        if copies_cgroups(plan) {
            view.open()?;
        }
        Ok(view)
    }
}

/// The rules of config.json, and after them those without which the default devices would not work.
pub fn device_rules(plan: &ContainerPlan) -> Vec<oci_spec::runtime::LinuxDeviceCgroup> {
    let mut rules = plan.resources.devices().clone().unwrap_or_default();
    rules.extend(wharf_cgroups::devices::default_rules());
    rules
}
