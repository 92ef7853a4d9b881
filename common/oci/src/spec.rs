//! The spec itself.

use std::collections::HashMap;

use oci_spec::runtime::{
    Box as ConsoleSize, BoxBuilder, Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxIdMapping,
    LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, LinuxSeccomp, Mount as SpecMount, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, Process, Root, Spec, User,
};

use crate::devices::{default_rules, parse_rule, rule};
use crate::error::SpecError;
use crate::host::Host;
use crate::mounts::{self, Options};
use crate::request::{IdMaps, Join, Request, SeccompChoice, Ulimit};
use crate::{caps, paths, resources, seccomp};

/// The version of the runtime specification that the spec is written in.
const OCI_VERSION: &str = "1.2.0";
/// Where an init program is in the container, as Docker has it.
const INIT_PATH: &str = "/sbin/docker-init";

/// The spec of `request` on `host`. Nothing is read or changed on the machine.
pub fn build(request: &Request, host: &Host) -> Result<Spec, SpecError> {
    if request.args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let capabilities =
        caps::tweak(&request.cap_add, &request.cap_drop, request.privileged, &host.capabilities)?;
    if request.writable_cgroups == Some(true) && request.namespaces.user.is_some() {
        return Err(SpecError::WritableCgroups);
    }
    let options = Options {
        shm_size: request.shm_size,
        no_shm: request.namespaces.ipc_none,
        readonly_root: request.readonly_root,
        writable_sys: request.privileged,
        // a read-only mount cannot be had inside a user namespace
        writable_cgroups: request.writable_cgroups.unwrap_or(request.privileged)
            || request.namespaces.user.is_some(),
        recursive_read_only: host.recursive_read_only,
    };
    let (mut mounts, root_propagation) = mounts::plan(&request.mounts, options)?;
    let with_init = request.init.as_ref().filter(|_| request.namespaces.pid == Join::Private);
    if let Some(source) = with_init {
        let mut m = SpecMount::default();
        m.set_destination(INIT_PATH.into())
            .set_typ(Some("bind".into()))
            .set_source(Some(source.clone()))
            .set_options(Some(vec!["bind".into(), "ro".into()]));
        mounts.push(m);
    }

    let mut root = Root::default();
    root.set_path(request.root.clone()).set_readonly(Some(request.readonly_root));
    let mut linux = linux(request, host, &capabilities)?;
    linux.set_rootfs_propagation(root_propagation.map(|p| p.as_str().to_owned()));

    let mut spec = Spec::default();
    let host_uts = request.namespaces.uts == Join::Host;
    let named = |name: &str| Some(name.to_owned()).filter(|n| !n.is_empty() && !host_uts);
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_mounts(Some(mounts))
        .set_process(Some(process(request, &capabilities, with_init.is_some())?))
        .set_hostname(named(&request.hostname))
        .set_domainname(named(&request.domainname))
        .set_hooks(None)
        .set_annotations(
            Some(request.annotations.clone().into_iter().collect::<HashMap<_, _>>())
                .filter(|a| !a.is_empty()),
        )
        .set_linux(Some(linux));
    Ok(spec)
}

/// What an additional process of a container (`exec`) is asked to be.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Over the container's own variables.
    pub env: Vec<String>,
    /// The container's own if empty.
    pub cwd: String,
    /// The container's own if none.
    pub user: Option<crate::user::Ids>,
    /// Whether it gets a pseudo-terminal.
    pub terminal: bool,
    /// Height and width in characters.
    pub console_size: Option<(u64, u64)>,
    /// All capabilities that the host has.
    pub privileged: bool,
}

/// The process of an exec in a container whose first process is `container`.
pub fn exec_process(container: &Process, exec: &Exec, host: &Host) -> Result<Process, SpecError> {
    if exec.args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let mut p = container.clone();
    let mut env = container.env().clone().unwrap_or_default();
    if exec.terminal && !env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    for entry in &exec.env {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        env.retain(|e| e.split_once('=').is_none_or(|(n, _)| n != name));
        if entry.contains('=') {
            env.push(entry.clone());
        }
    }
    p.set_args(Some(exec.args.clone()))
        .set_env(Some(env))
        .set_terminal(Some(exec.terminal))
        .set_console_size(exec.console_size.filter(|_| exec.terminal).map(console_size));
    if !exec.cwd.is_empty() {
        p.set_cwd(exec.cwd.clone().into());
    }
    if let Some(ids) = &exec.user {
        p.set_user(user(ids));
    }
    if exec.privileged {
        p.set_capabilities(Some(capability_sets(&host.capabilities)));
    }
    Ok(p)
}

fn console_size((height, width): (u64, u64)) -> ConsoleSize {
    // every field has a default, so building cannot fail
    BoxBuilder::default().height(height).width(width).build().unwrap_or_default()
}

fn user(ids: &crate::user::Ids) -> User {
    let mut user = User::default();
    // the primary group among the supplementary ones, or a file of another of its groups could not be denied to it
    // (CVE-2022-2989 and its like)
    let mut groups = vec![ids.gid];
    groups.extend(&ids.additional_gids);
    user.set_uid(ids.uid).set_gid(ids.gid).set_additional_gids(Some(groups));
    user
}

fn capability_sets(names: &[String]) -> LinuxCapabilities {
    let set: std::collections::HashSet<Capability> = names
        .iter()
        .filter_map(|n| serde_json::from_value(serde_json::Value::String(n.clone())).ok())
        .collect();
    let mut sets = LinuxCapabilities::default();
    // nothing inheritable or ambient (CVE-2022-24769)
    sets.set_bounding(Some(set.clone()))
        .set_permitted(Some(set.clone()))
        .set_effective(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    sets
}

fn process(request: &Request, capabilities: &[String], with_init: bool) -> Result<Process, SpecError> {
    let mut args = request.args.clone();
    if with_init {
        args.splice(0..0, [INIT_PATH.to_owned(), "--".to_owned()]);
    }
    let rlimits = request.ulimits.iter().map(rlimit).collect::<Result<Vec<_>, _>>()?;
    let cwd = if request.cwd.is_empty() { "/" } else { &request.cwd };
    let mut p = Process::default();
    p.set_terminal(Some(request.terminal))
        .set_console_size(request.console_size.filter(|_| request.terminal).map(console_size))
        .set_user(user(&request.user))
        .set_args(Some(args))
        .set_env(Some(request.env.clone()))
        .set_cwd(cwd.into())
        .set_capabilities(Some(capability_sets(capabilities)))
        .set_rlimits(Some(rlimits).filter(|r| !r.is_empty()))
        .set_no_new_privileges(Some(request.no_new_privileges))
        .set_apparmor_profile(request.apparmor.clone())
        .set_selinux_label(request.selinux_process_label.clone())
        .set_oom_score_adj(request.oom_score_adj);
    Ok(p)
}

fn rlimit(ulimit: &Ulimit) -> Result<PosixRlimit, SpecError> {
    let bad = |reason| SpecError::Ulimit { name: ulimit.name.clone(), reason };
    let name = format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase());
    let typ: PosixRlimitType =
        serde_json::from_value(serde_json::Value::String(name)).map_err(|_| bad("there is no such limit"))?;
    // -1 is unlimited, the highest number there is
    let number = |n: i64| match n {
        -1 => Ok(u64::MAX),
        n => u64::try_from(n).map_err(|_| bad("a limit is -1 (unlimited) or not negative")),
    };
    let (soft, hard) = (number(ulimit.soft)?, number(ulimit.hard)?);
    if soft > hard {
        return Err(bad("the soft limit is above the hard limit"));
    }
    Ok(PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard).build().unwrap_or_default())
}

fn linux(request: &Request, host: &Host, capabilities: &[String]) -> Result<Linux, SpecError> {
    let mut limits = resources::linux(&request.resources)?;
    limits.set_devices(Some(device_rules(request)?));
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let (mut masked, mut readonly) = (strings(&paths::MASKED), strings(&paths::READONLY));
    masked.extend(host.masked_paths.iter().cloned());
    if request.privileged {
        masked.clear();
        readonly.clear();
    }
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(request)))
        .set_devices(Some(request.devices.iter().map(crate::devices::Device::node).collect()))
        .set_resources(Some(limits))
        .set_cgroups_path(
            Some(request.cgroups_path.clone().into()).filter(|_| !request.cgroups_path.is_empty()),
        )
        .set_sysctl(Some(sysctls(request, host)).filter(|s| !s.is_empty()))
        .set_seccomp(profile(request, host, capabilities)?)
        .set_masked_paths(Some(request.masked_paths.clone().unwrap_or(masked)))
        .set_readonly_paths(Some(request.readonly_paths.clone().unwrap_or(readonly)))
        .set_mount_label(request.selinux_mount_label.clone());
    if let Some(IdMaps { uids, gids }) = &request.namespaces.user {
        linux.set_uid_mappings(Some(id_maps(uids))).set_gid_mappings(Some(id_maps(gids)));
    }
    Ok(linux)
}

fn id_maps(maps: &[(u32, u32, u32)]) -> Vec<LinuxIdMapping> {
    maps.iter()
        .map(|(container, host, size)| {
            let m = LinuxIdMappingBuilder::default().container_id(*container).host_id(*host).size(*size);
            m.build().unwrap_or_default()
        })
        .collect()
}

fn device_rules(request: &Request) -> Result<Vec<LinuxDeviceCgroup>, SpecError> {
    let mut rules = default_rules();
    if request.privileged {
        rules.push(rule(true, None, None, "rwm"));
        return Ok(rules);
    }
    rules.extend(request.devices.iter().map(crate::devices::Device::rule));
    for text in &request.device_cgroup_rules {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

fn namespaces(request: &Request) -> Vec<LinuxNamespace> {
    let n = &request.namespaces;
    let kinds = [
        (LinuxNamespaceType::Mount, &Join::Private),
        (LinuxNamespaceType::Network, &n.network),
        (LinuxNamespaceType::Uts, &n.uts),
        (LinuxNamespaceType::Pid, &n.pid),
        (LinuxNamespaceType::Ipc, &n.ipc),
        (LinuxNamespaceType::Cgroup, &n.cgroup),
    ];
    let mut out = Vec::with_capacity(7);
    for (typ, join) in kinds {
        let mut ns = LinuxNamespace::default();
        ns.set_typ(typ);
        match join {
            Join::Host => continue,
            Join::Private => {}
            Join::Path(path) => drop(ns.set_path(Some(path.clone()))),
        }
        out.push(ns);
    }
    if n.user.is_some() {
        let mut ns = LinuxNamespace::default();
        ns.set_typ(LinuxNamespaceType::User);
        out.push(ns);
    }
    out
}

fn sysctls(request: &Request, host: &Host) -> HashMap<String, String> {
    let mut out = HashMap::new();
    if request.namespaces.network == Join::Private {
        // what CAP_NET_RAW and CAP_NET_BIND_SERVICE in the default set allow, for every user
        if host.ping_group_range && request.namespaces.user.is_none() {
            out.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
        if host.unprivileged_port_start {
            out.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        }
    }
    out.extend(request.sysctls.clone());
    out
}

fn profile(
    request: &Request,
    host: &Host,
    capabilities: &[String],
) -> Result<Option<LinuxSeccomp>, SpecError> {
    let facts = seccomp::Facts { capabilities, arch: std::env::consts::ARCH, kernel: host.kernel };
    match &request.seccomp {
        SeccompChoice::Unconfined => Ok(None),
        SeccompChoice::Profile(json) => {
            if !host.seccomp {
                return Err(SpecError::NoSeccomp);
            }
            Ok(seccomp::load(json, &facts)?)
        }
        SeccompChoice::Default if request.privileged || !host.seccomp => Ok(None),
        SeccompChoice::Default => Ok(Some(seccomp::default_profile(&facts)?)),
    }
}

#[cfg(test)]
mod tests;
