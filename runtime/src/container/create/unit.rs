//! The systemd unit that a container's cgroup is, where it is one.

use super::undo::Undo;
use crate::container::ContainerError;
use crate::plan::ContainerPlan;
use wharf_cgroups::systemd::{Holder, Unit};
use wharf_cgroups::{Cgroup, Hierarchies, Plan as CgroupPlan};

/// A unit that runs, held open by a process that does nothing.
#[derive(Debug)]
pub struct Held {
    unit: Unit,
    holder: Holder,
}

/// Begins the unit; nothing where the cgroup is made in the filesystem.
pub fn start(
    hierarchies: &Hierarchies,
    cgroup_plan: &CgroupPlan,
    id: &str,
    plan: &ContainerPlan,
    undo: &mut Undo,
) -> Result<Option<Held>, ContainerError> {
    let Some(unit) = cgroup_plan.unit() else { return Ok(None) };
    let holder = unit.start(hierarchies.mode(), id, &plan.resources, &plan.annotations)?;
    undo.unit_exists(unit.clone());
    Ok(Some(Held { unit: unit.clone(), holder }))
}

/// How many processes are in the cgroup that nobody here put there.
pub fn others(held: Option<&Held>, cgroup: &Cgroup) -> Result<usize, ContainerError> {
    let holder = held.map(|h| h.holder.pid());
    Ok(cgroup.procs()?.into_iter().filter(|pid| Some(*pid) != holder).count())
}

/// Lets go of the unit, now that init is in it, and sets the limit that its holder would have counted towards.
pub fn let_go(held: Option<Held>, plan: &ContainerPlan) -> Result<(), ContainerError> {
    let Some(Held { unit, holder }) = held else { return Ok(()) };
    drop(holder);
    Ok(unit.set_tasks(&plan.resources)?)
}
