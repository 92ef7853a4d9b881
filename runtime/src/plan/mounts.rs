//! What is to be mounted where, from `mounts` of config.json. Pure.

use super::options::{self, Attrs, Options, Param};
use crate::config::ConfigError;
use oci_spec::runtime::{LinuxIdMapping, Mount};
use std::path::{Component, Path, PathBuf};
use wharf_sys::mount::{Propagation, attr};

/// One mount to make, in the order of config.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOp {
    /// JSON path, for errors: `mounts[3]`.
    pub at: String,
    /// Absolute, inside the container.
    pub target: PathBuf,
    pub kind: MountKind,
    pub attrs: Attrs,
    pub recursive_attrs: Attrs,
    pub propagation: Vec<(Propagation, bool)>,
    /// Made read-only only after everything has been mounted below it (tmpfs: later mounts need their targets made in it).
    pub read_only_late: bool,
}

impl MountOp {
    /// Whether this puts a procfs at /proc (a bind mount there is verified to be one when it is made).
    pub fn is_procfs(&self) -> bool {
        self.target == Path::new("/proc")
            && matches!(self.kind, MountKind::Fs { .. } | MountKind::Bind { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A host path, absolute. One below the root filesystem is also given by its path `inside` the container: mounts made
    /// before it belong to it.
    Bind { source: PathBuf, inside: Option<PathBuf>, recursive: bool, idmap: Option<IdMap> },
    /// A new instance of a filesystem.
    Fs { fstype: String, source: String, params: Vec<Param>, copy_up: bool },
    /// The container's own view of the cgroup hierarchies.
    Cgroup,
    /// Only attributes or propagation of what is there already change.
    Change,
}

/// The mapping of an id-mapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    pub recursive: bool,
    pub ids: Ids,
}

/// How ids are mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    Given {
        uid: Vec<LinuxIdMapping>,
        gid: Vec<LinuxIdMapping>,
    },
    /// As in the user namespace at this path.
    As(PathBuf),
}

/// Files below /proc that may be mounted over: lxcfs shows containers their own numbers through these.
const PROC_FILES: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// The host's paths that mounts are planned by.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The base of relative sources.
    pub bundle: &'a Path,
    /// Absolute.
    pub rootfs: &'a Path,
    /// Of the container's own user namespace, which `idmap` without a mapping means.
    pub ids: Option<&'a Ids>,
}

impl Places<'_> {
    /// The path inside the container of a host path below its root filesystem. The host's own root is not told apart from
    /// the container's by paths.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(self.rootfs).ok()?;
        (self.rootfs != Path::new("/")).then(|| Path::new("/").join(below))
    }
}

/// Plans all mounts.
pub fn plan(mounts: &[Mount], places: Places<'_>, label: Option<&str>) -> Result<Vec<MountOp>, ConfigError> {
    mounts.iter().enumerate().map(|(i, m)| plan_one(i, m, places, label)).collect()
}

fn plan_one(
    index: usize,
    mount: &Mount,
    places: Places<'_>,
    label: Option<&str>,
) -> Result<MountOp, ConfigError> {
    let at = format!("mounts[{index}]");
    let target = absolute_target(&at, mount.destination())?;
    // runc takes a target that is given as a host path below the root filesystem for the one inside
    let target = places.inside(&target).unwrap_or(target);
    let list = mount.options().as_deref().unwrap_or_default();
    for (n, option) in list.iter().enumerate() {
        if option.contains('\0') {
            return Err(ConfigError::invalid(format!("{at}.options[{n}]"), "contains a NUL byte"));
        }
    }
    let mut options = options::parse(list.iter().map(String::as_str));
    let fstype = mount.typ().clone().unwrap_or_default();
    let kind = kind_of(&at, mount, &fstype, places, &mut options, label)?;
    below_proc(&at, &target, &kind)?;
    let is_tmpfs = matches!(&kind, MountKind::Fs { fstype, .. } if fstype == "tmpfs");
    let read_only_late = is_tmpfs && options.attrs.set & attr::RDONLY != 0;
    if read_only_late {
        options.attrs.set &= !attr::RDONLY;
    }
    Ok(MountOp {
        at,
        target,
        kind,
        attrs: options.attrs,
        recursive_attrs: options.recursive_attrs,
        propagation: options.propagation,
        read_only_late,
    })
}

/// Mount targets are absolute and free of `..`; a relative one is taken from `/`, as runc does.
fn absolute_target(at: &str, destination: &Path) -> Result<PathBuf, ConfigError> {
    if destination.as_os_str().is_empty() {
        return Err(ConfigError::invalid(format!("{at}.destination"), "empty; an absolute path is required"));
    }
    clean_absolute(&format!("{at}.destination"), destination)
}

/// Makes a path absolute and resolves `.` and `..` in it by text, so that it cannot leave the root by spelling.
pub(super) fn clean_absolute(at: &str, path: &Path) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(ConfigError::invalid(at, "contains a NUL byte"));
    }
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    Ok(out)
}

fn kind_of(
    at: &str,
    mount: &Mount,
    fstype: &str,
    places: Places<'_>,
    options: &mut Options,
    label: Option<&str>,
) -> Result<MountKind, ConfigError> {
    if options.remount {
        return Ok(MountKind::Change);
    }
    let source = mount.source().clone().unwrap_or_default();
    if options.bind.is_some() || fstype == "bind" {
        if source.as_os_str().is_empty() {
            return Err(ConfigError::invalid(
                format!("{at}.source"),
                "empty; a bind mount needs the path to bind",
            ));
        }
        // runc: a type of "bind" without either option is a recursive bind
        let recursive = options.bind.unwrap_or(true);
        // what is left are parameters of a filesystem, which a bind mount cannot take
        if let Some(param) =
            options.params.iter().find(|p| !is_flag(p, &["sync", "dirsync", "mand", "lazytime"]))
        {
            let shown = match param {
                Param::Flag(f) => f.clone(),
                Param::Pair(k, v) => format!("{k}={v}"),
            };
            return Err(ConfigError::invalid(
                format!("{at}.options"),
                format!("{shown:?} does not apply to a bind mount"),
            ));
        }
        let source = places.bundle.join(source);
        let lexical = clean_absolute(&format!("{at}.source"), &source)?;
        return Ok(MountKind::Bind {
            inside: places.inside(&lexical),
            source,
            recursive,
            idmap: idmap(at, mount, options, places.ids)?,
        });
    }
    if options.idmap.is_some() || mount.uid_mappings().is_some() {
        return Err(ConfigError::invalid(format!("{at}.uidMappings"), "only bind mounts can be id-mapped"));
    }
    if matches!(fstype, "cgroup" | "cgroup2") {
        return Ok(MountKind::Cgroup);
    }
    if fstype.is_empty() || fstype == "none" {
        if options.propagation.is_empty() && options.attrs.is_empty() {
            return Err(ConfigError::invalid(
                format!("{at}.type"),
                "empty; a filesystem type or the option \"bind\" is required",
            ));
        }
        return Ok(MountKind::Change);
    }
    let mut params = std::mem::take(&mut options.params);
    if !matches!(fstype, "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue")
        && options.attrs.set & attr::RDONLY != 0
    {
        // a read-only device can only be mounted if the filesystem itself is read-only
        params.push(Param::Flag("ro".into()));
    }
    if let Some(label) = label.filter(|l| !l.is_empty() && !matches!(fstype, "proc" | "sysfs" | "mqueue")) {
        params.push(Param::Pair("context".into(), label.to_owned()));
    }
    let source =
        if source.as_os_str().is_empty() { fstype.to_owned() } else { source.to_string_lossy().into_owned() };
    Ok(MountKind::Fs { fstype: fstype.to_owned(), source, params, copy_up: options.tmpcopyup })
}

fn is_flag(param: &Param, names: &[&str]) -> bool {
    matches!(param, Param::Flag(f) if names.contains(&f.as_str()))
}

fn idmap(
    at: &str,
    mount: &Mount,
    options: &Options,
    own: Option<&Ids>,
) -> Result<Option<IdMap>, ConfigError> {
    let recursive = options.idmap.unwrap_or(false);
    match (mount.uid_mappings(), mount.gid_mappings()) {
        (None, None) if options.idmap.is_none() => Ok(None),
        (Some(uid), Some(gid)) if !uid.is_empty() && !gid.is_empty() => {
            Ok(Some(IdMap { recursive, ids: Ids::Given { uid: uid.clone(), gid: gid.clone() } }))
        }
        (None, None) if own.is_some() => Ok(own.map(|ids| IdMap { recursive, ids: ids.clone() })),
        _ => Err(ConfigError::invalid(
            format!("{at}.uidMappings"),
            "an id-mapped mount needs both uidMappings and gidMappings, or a user namespace to take them from",
        )),
    }
}

/// CVE-2019-16884 and its like: a mount over a file of /proc could hide or fake what the runtime itself relies on.
fn below_proc(at: &str, target: &Path, kind: &MountKind) -> Result<(), ConfigError> {
    let Ok(below) = target.strip_prefix("/proc") else { return Ok(()) };
    if below.as_os_str().is_empty() {
        // /proc itself: procfs, or a bind of one (verified by filesystem type when it is mounted)
        return match kind {
            MountKind::Fs { fstype, .. } if fstype != "proc" => Err(ConfigError::invalid(
                format!("{at}.destination"),
                format!(
                    "{:?} cannot be mounted at /proc; only type \"proc\" or a bind mount of procfs can",
                    fstype
                ),
            )),
            _ => Ok(()),
        };
    }
    if matches!(kind, MountKind::Fs { fstype, .. } if fstype == "proc" || fstype == "sysfs")
        || PROC_FILES.iter().any(|p| target == Path::new(p))
        || matches!(kind, MountKind::Change)
    {
        return Ok(());
    }
    // the kernel's own filesystems that live there
    if let MountKind::Fs { fstype, .. } = kind
        && matches!(fstype.as_str(), "binfmt_misc" | "nfsd" | "rpc_pipefs")
    {
        return Ok(());
    }
    Err(ConfigError::invalid(
        format!("{at}.destination"),
        format!("{} cannot be mounted because it is inside /proc", target.display()),
    ))
}

#[cfg(test)]
mod tests;
