//! Everything a container needs, checked and in order, as data: made without touching the system, then executed.

pub mod affinity;
pub mod capabilities;
pub mod devices;
pub mod id_list;
pub mod mounts;
pub mod namespaces;
pub mod net_devices;
pub mod options;
pub mod placement;
pub mod process;
pub mod rdt;
pub mod sysctl;

use crate::config::ConfigError;
use crate::host::Host;
use crate::spec::Spec;
use devices::Device;
use mounts::{MountOp, clean_absolute};
use namespaces::NamespacePlan;
use oci_spec::runtime::{Hooks, LinuxIdMapping, LinuxResources, LinuxSeccomp};
use process::ProcessPlan;
use std::path::{Path, PathBuf};
use wharf_sys::mount::Propagation;
use wharf_sys::namespace::Namespaces;

/// A container, ready to be made.
#[derive(Debug, Clone)]
pub struct ContainerPlan {
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute, on the host.
    pub rootfs: PathBuf,
    pub readonly_root: bool,
    /// None: slave, recursively, and the root private.
    pub root_propagation: Option<(Propagation, bool)>,
    pub namespaces: NamespacePlan,
    pub uid_mappings: Vec<LinuxIdMapping>,
    pub gid_mappings: Vec<LinuxIdMapping>,
    /// Nanoseconds to add to the clock of each name.
    pub time_offsets: Vec<(String, i64, u32)>,
    pub mounts: Vec<MountOp>,
    pub devices: Vec<Device>,
    pub masked: Vec<PathBuf>,
    pub readonly: Vec<PathBuf>,
    pub sysctl: Vec<(String, String)>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub process: ProcessPlan,
    pub hooks: Hooks,
    pub seccomp: Option<LinuxSeccomp>,
    pub resources: LinuxResources,
    pub cgroups_path: Option<String>,
    pub placement: placement::Placement,
    pub rdt: Option<rdt::RdtPlan>,
    pub net_devices: Vec<net_devices::NetDevice>,
    pub annotations: std::collections::HashMap<String, String>,
    pub oci_version: String,
}

/// Plans a container from its config.json. Every refusal happens here, before anything has been touched.
pub fn plan(spec: &Spec, bundle: &Path, host: &Host) -> Result<ContainerPlan, ConfigError> {
    version(&spec.version)?;
    let process = spec
        .process
        .as_ref()
        .ok_or_else(|| ConfigError::invalid("process", "missing; it is required to create a container"))?;
    let root = spec.root.as_ref().ok_or_else(|| ConfigError::invalid("root", "missing; it is required"))?;
    if root.path().as_os_str().is_empty() {
        return Err(ConfigError::invalid("root.path", "empty; a directory is required"));
    }
    let linux = spec
        .linux
        .as_ref()
        .ok_or_else(|| ConfigError::invalid("linux", "missing; it is required on Linux"))?;
    let namespaces = namespaces::plan(linux.namespaces().as_deref().unwrap_or_default())?;
    let mut plan = ContainerPlan {
        bundle: bundle.to_owned(),
        rootfs: bundle.join(root.path()),
        readonly_root: root.readonly().unwrap_or(false),
        root_propagation: root_propagation(linux.rootfs_propagation().as_deref())?,
        uid_mappings: mappings(linux.uid_mappings().as_deref(), "linux.uidMappings")?,
        gid_mappings: mappings(linux.gid_mappings().as_deref(), "linux.gidMappings")?,
        time_offsets: time_offsets(linux)?,
        mounts: mounts::plan(
            spec.mounts.as_deref().unwrap_or_default(),
            mounts::Places {
                bundle,
                rootfs: &clean_absolute("root.path", &bundle.join(root.path()))?,
                ids: own_ids(linux, &namespaces).as_ref(),
            },
            linux.mount_label().as_deref(),
        )?,
        devices: devices::plan(linux.devices().as_deref().unwrap_or_default())?,
        masked: paths(linux.masked_paths().as_deref(), "linux.maskedPaths")?,
        readonly: paths(linux.readonly_paths().as_deref(), "linux.readonlyPaths")?,
        sysctl: sysctl::plan(linux, &namespaces)?,
        hostname: spec.hostname.clone().filter(|h| !h.is_empty()),
        domainname: spec.domainname.clone().filter(|d| !d.is_empty()),
        process: process::plan(process, "process")?,
        hooks: spec.hooks.clone().unwrap_or_default(),
        seccomp: linux.seccomp().clone(),
        resources: linux.resources().clone().unwrap_or_default(),
        cgroups_path: linux
            .cgroups_path()
            .as_ref()
            .map(|p| p.to_string_lossy().into_owned())
            .filter(|p| !p.is_empty()),
        placement: placement::plan(linux)?,
        rdt: rdt::plan(linux)?,
        net_devices: net_devices::plan(linux, &namespaces)?,
        annotations: spec.annotations.clone().unwrap_or_default(),
        oci_version: spec.version.clone(),
        namespaces,
    };
    plan.process.limited_cpus = process::limits_cpus(&plan.resources);
    contradictions(&plan)?;
    host_offers(&plan)?;
    host.check_labels(&plan.process, linux.mount_label().as_deref(), "process")?;
    check_hooks(&plan.hooks)?;
    Ok(plan)
}

/// The mapping of the container's user namespace, if it has one.
fn own_ids(linux: &oci_spec::runtime::Linux, namespaces: &NamespacePlan) -> Option<mounts::Ids> {
    if let Some(join) = &namespaces.user_join {
        return Some(mounts::Ids::As(join.path.clone()));
    }
    namespaces.has_user().then(|| mounts::Ids::Given {
        uid: linux.uid_mappings().clone().unwrap_or_default(),
        gid: linux.gid_mappings().clone().unwrap_or_default(),
    })
}

/// Any 1.x is compatible (semantic versioning, as the specification says).
fn version(version: &str) -> Result<(), ConfigError> {
    let numbers: Vec<_> = version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    let valid = numbers.len() == 3 && numbers.iter().all(|n| n.parse::<u32>().is_ok());
    if !valid || numbers.first() != Some(&"1") {
        return Err(ConfigError::invalid(
            "ociVersion",
            format!("{version:?} is not supported; 1.0.0 and later 1.x are"),
        ));
    }
    Ok(())
}

fn root_propagation(value: Option<&str>) -> Result<Option<(Propagation, bool)>, ConfigError> {
    Ok(Some(match value.unwrap_or_default() {
        "" => return Ok(None),
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        other => {
            return Err(ConfigError::invalid(
                "linux.rootfsPropagation",
                format!(
                    "{other:?} is unknown; allowed are private, slave, shared, unbindable, each also with a leading r"
                ),
            ));
        }
    }))
}

fn mappings(list: Option<&[LinuxIdMapping]>, at: &str) -> Result<Vec<LinuxIdMapping>, ConfigError> {
    let list = list.unwrap_or_default();
    for (i, m) in list.iter().enumerate() {
        if m.size() == 0 {
            return Err(ConfigError::invalid(format!("{at}[{i}].size"), "0; at least one id must be mapped"));
        }
        if m.host_id().checked_add(m.size()).is_none() || m.container_id().checked_add(m.size()).is_none() {
            return Err(ConfigError::invalid(format!("{at}[{i}]"), "reaches past the last id 4294967294"));
        }
    }
    Ok(list.to_vec())
}

fn time_offsets(linux: &oci_spec::runtime::Linux) -> Result<Vec<(String, i64, u32)>, ConfigError> {
    let mut out = Vec::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(ConfigError::invalid(
                format!("linux.timeOffsets.{clock}"),
                "unknown clock; allowed are monotonic and boottime",
            ));
        }
        let nanos = offset.nanosecs().unwrap_or(0);
        if nanos > 999_999_999 {
            return Err(ConfigError::invalid(
                format!("linux.timeOffsets.{clock}.nanosecs"),
                format!("{nanos} is a second or more; 0 to 999999999 are allowed"),
            ));
        }
        out.push((clock.clone(), offset.secs().unwrap_or(0), nanos));
    }
    Ok(out)
}

fn paths(list: Option<&[String]>, at: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let mut out = Vec::new();
    for (i, path) in list.unwrap_or_default().iter().enumerate() {
        let at = format!("{at}[{i}]");
        if !path.starts_with('/') {
            return Err(ConfigError::invalid(at, format!("{path:?} is not an absolute path")));
        }
        let path = clean_absolute(&at, Path::new(path))?;
        // twice is once: the second would hide the first, and cost a mount
        if !out.contains(&path) {
            out.push(path);
        }
    }
    Ok(out)
}

fn contradictions(plan: &ContainerPlan) -> Result<(), ConfigError> {
    let ns = &plan.namespaces;
    let uts = ns.private.contains(Namespaces::UTS);
    if plan.hostname.is_some() && !uts {
        return Err(ConfigError::invalid(
            "hostname",
            "unable to set hostname without a private UTS namespace",
        ));
    }
    if plan.domainname.is_some() && !uts {
        return Err(ConfigError::invalid(
            "domainname",
            "unable to set domainname without a private UTS namespace",
        ));
    }
    if !ns.private.contains(Namespaces::MOUNT) {
        return Err(ConfigError::invalid(
            "linux.namespaces",
            "no mount namespace; the root filesystem and masked paths would change the host's mounts",
        ));
    }
    let mapped = !plan.uid_mappings.is_empty() || !plan.gid_mappings.is_empty();
    if mapped && !ns.has_user() {
        return Err(ConfigError::invalid(
            "linux.uidMappings",
            "user namespace mappings specified, but no user namespace is",
        ));
    }
    if ns.clone.contains(Namespaces::USER) {
        for (list, at) in
            [(&plan.uid_mappings, "linux.uidMappings"), (&plan.gid_mappings, "linux.gidMappings")]
        {
            if list.is_empty() {
                return Err(ConfigError::invalid(
                    at,
                    "empty; a new user namespace needs at least one mapping",
                ));
            }
        }
        for (id, list, at) in [
            (plan.process.uid, &plan.uid_mappings, "process.user.uid"),
            (plan.process.gid, &plan.gid_mappings, "process.user.gid"),
        ] {
            if host_id(id, list).is_none() {
                return Err(ConfigError::invalid(at, format!("{id} is not mapped in the user namespace")));
            }
        }
    }
    if !plan.time_offsets.is_empty() && !ns.clone.contains(Namespaces::TIME) {
        return Err(ConfigError::invalid("linux.timeOffsets", "given, but no new time namespace is"));
    }
    Ok(())
}

/// The id outside the user namespace that an id inside maps to.
pub fn host_id(id: u32, mappings: &[LinuxIdMapping]) -> Option<u32> {
    mappings.iter().find_map(|m| {
        let offset = id.checked_sub(m.container_id())?;
        (offset < m.size()).then(|| m.host_id().checked_add(offset)).flatten()
    })
}

/// What the host does not have is refused, never passed over in silence.
fn host_offers(plan: &ContainerPlan) -> Result<(), ConfigError> {
    if plan.rdt.is_some() && !Path::new(crate::rdt::ROOT).join("schemata").exists() {
        return Err(ConfigError::invalid(
            "linux.intelRdt",
            format!("this host has no resource control filesystem (resctrl) mounted at {}", crate::rdt::ROOT),
        ));
    }
    Ok(())
}

fn check_hooks(hooks: &Hooks) -> Result<(), ConfigError> {
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    for (name, list) in [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ] {
        for (i, hook) in list.iter().flatten().enumerate() {
            let at = format!("hooks.{name}[{i}]");
            if !hook.path().is_absolute() {
                return Err(ConfigError::invalid(
                    format!("{at}.path"),
                    format!("{:?} is not an absolute path", hook.path()),
                ));
            }
            if hook.timeout().is_some_and(|t| t <= 0) {
                return Err(ConfigError::invalid(format!("{at}.timeout"), "not more than 0 seconds"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
