//! The runtime's half of the conversation with init.

use super::{Options, files, listener};
use crate::container::status::Container;
use crate::container::{ContainerError, HookState};
use crate::handshake::{Channel, HandshakeError, Step};
use crate::idmap::remote::Mapper;
use crate::pid::ProcessId;
use crate::plan::ContainerPlan;
use crate::plan::process::ProcessPlan;
use crate::sources::Source;
use crate::state::Record;
use crate::{hooks, idmap, rootless};
use std::os::fd::OwnedFd;
use std::path::Path;
use wharf_cgroups::{Cgroup, CgroupError};
use wharf_sys::namespace::Namespaces;

/// Up to Ready; returns the terminal, if the runtime itself serves it.
pub fn serve(
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
        let prestart = plan.hooks.prestart().as_ref();
        hooks::run("prestart", prestart, &json)
            .and_then(|()| hooks::run("createRuntime", plan.hooks.create_runtime().as_ref(), &json))
            .map_err(|e| HandshakeError::Init(e.to_string()))?;
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

fn limits_without_cgroup(error: CgroupError, record: &Record) -> ContainerError {
    match error {
        CgroupError::MissingController { controller, .. }
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

/// Writes a process's OOM score, which after a change of user it could not do itself.
pub fn oom_score(process: &ProcessPlan, pid: i32) -> Result<(), ContainerError> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(&path, score.to_string())
        .map_err(ContainerError::act(format!("writing {score} to {path}")))
}

fn has_runtime_hooks(plan: &ContainerPlan) -> bool {
    #[allow(deprecated)]
    let prestart = plan.hooks.prestart();
    [prestart, plan.hooks.create_runtime()].into_iter().flatten().any(|list| !list.is_empty())
}

/// Init waits where hooks, or what moves interfaces into its network, come before its own hooks and its program.
pub fn pauses_when_mounted(plan: &ContainerPlan) -> bool {
    has_runtime_hooks(plan) || !plan.net_devices.is_empty()
}

/// Runs the hooks of a container that runs.
pub fn poststart(plan: &ContainerPlan, container: &Container, pid: i32) -> Result<(), ContainerError> {
    let state = HookState::of(&container.record).json("running", pid);
    Ok(hooks::run("poststart", plan.hooks.poststart().as_ref(), &state)?)
}
