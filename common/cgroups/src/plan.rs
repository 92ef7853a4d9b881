//! Which directory of which hierarchy a container gets: decided without an effect.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::CgroupError;
use crate::hierarchy::{Hierarchies, own_below_mount, own_is_there};
use crate::lexical::clean;
use crate::systemd::{self, Unit, Whose, expand_slice};

/// There while systemd is the first process (sd_booted(3)).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// Who makes the directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// This process, in the filesystem.
    Cgroupfs,
    /// systemd, asked over D-Bus.
    Systemd,
}

/// Directories by subsystem, in the form of runc's `cgroup_paths`: `memory` → directory, `name=systemd` → directory,
/// and the empty name → version 2's directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Paths(pub BTreeMap<String, PathBuf>);

/// The place of a container's cgroup in every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// As long as the list of hierarchies and in its order; components below the mount point.
    pub(crate) below: Vec<Vec<String>>,
    paths: Paths,
    unit: Option<Unit>,
}

impl Plan {
    /// The directories for `linux.cgroupsPath` and container `id`.
    ///
    /// An absolute path is below each hierarchy's mount point. A relative one, or the id where none is given, is
    /// below the caller's own cgroup (v1), or beside it (v2, where a cgroup with processes cannot have limited
    /// children). With [`Driver::Systemd`] the path has the form `slice:prefix:name`.
    pub fn new(h: &Hierarchies, driver: Driver, path: Option<&Path>, id: &str) -> Result<Plan, CgroupError> {
        if driver == Driver::Systemd {
            return Plan::of_unit(h, SystemdName::parse(path, id)?);
        }
        let given = path.and_then(Path::to_str).map_or_else(
            || if path.is_some() { Err(()) } else { Ok(None) },
            |p| Ok(Some(p).filter(|p| !p.is_empty())),
        );
        let Ok(given) = given else {
            return Err(CgroupError::BadPath {
                path: path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default(),
                reason: "it is not UTF-8",
            });
        };
        let wanted = given.unwrap_or(id);
        let inner = clean(wanted);
        if inner.is_empty() {
            return Err(CgroupError::BadPath {
                path: wanted.to_owned(),
                reason: "it names the root of the hierarchy; give it a name below the root",
            });
        }
        let absolute = given.is_some_and(|p| p.starts_with('/'));
        // a mount of the whole hierarchy has the own cgroup at its own path, and mountinfo is long on a busy host
        let mountinfo = match absolute || h.all().iter().all(own_is_there) {
            true => String::new(),
            false => fs::read_to_string("/proc/self/mountinfo").map_err(|source| CgroupError::Io {
                act: "read",
                path: "/proc/self/mountinfo".into(),
                source,
            })?,
        };
        let below = h.all().iter().map(|hierarchy| {
            let mut parts = if absolute { Vec::new() } else { own_below_mount(hierarchy, &mountinfo) };
            if hierarchy.is_v2() {
                parts.pop();
            }
            parts.extend(inner.iter().map(|s| (*s).to_owned()));
            parts
        });
        Ok(Plan::with(h, below.collect(), None))
    }

    /// The directories that systemd gives a unit.
    fn of_unit(h: &Hierarchies, name: SystemdName) -> Result<Plan, CgroupError> {
        let manager = Whose::caller();
        let slice = match (name.slice.is_empty(), manager) {
            (false, _) => name.slice,
            (true, Whose::System) => "system.slice".to_owned(),
            (true, Whose::User) => "user.slice".to_owned(),
        };
        let slices = expand_slice(&slice).ok_or_else(|| CgroupError::BadPath {
            path: slice.clone(),
            reason: "it is not the name of a slice, such as system.slice or a-b.slice",
        })?;
        if !Path::new(SYSTEMD_RUNS).is_dir() {
            return Err(CgroupError::SystemdUnavailable(
                "systemd does not run here (/run/systemd/system is missing); use the cgroupfs manager",
            ));
        }
        let root = systemd::root(manager)?;
        let mut parts: Vec<String> = clean(&root).into_iter().map(str::to_owned).collect();
        parts.extend(slices);
        parts.push(name.unit.clone());
        let below = h.all().iter().map(|_| parts.clone()).collect();
        Ok(Plan::with(h, below, Some(Unit { name: name.unit, slice, manager })))
    }

    fn with(h: &Hierarchies, below: Vec<Vec<String>>, unit: Option<Unit>) -> Plan {
        let mut paths = Paths::default();
        for (hierarchy, parts) in h.all().iter().zip(&below) {
            let directory: PathBuf =
                std::iter::once(hierarchy.point.as_path()).chain(parts.iter().map(Path::new)).collect();
            for controller in &hierarchy.controllers {
                paths.0.insert(controller.clone(), directory.clone());
            }
            if hierarchy.is_v2() {
                paths.0.insert(String::new(), directory);
            }
        }
        Plan { below, paths, unit }
    }

    /// The unit that is to be started before [`crate::Cgroup::create`]; none with [`Driver::Cgroupfs`].
    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// The directories, whether they exist or not.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }
}

/// A systemd cgroup: unit `prefix-name.scope` in `slice` (runc's form of `linux.cgroupsPath`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdName {
    /// Empty where the first part is: the manager's default.
    pub slice: String,
    /// The unit: `name` alone if it ends in `.slice`, else `prefix-name.scope`.
    pub unit: String,
}

impl SystemdName {
    /// Parses `slice:prefix:name`; nothing given is `:runc:<id>`.
    pub fn parse(path: Option<&Path>, id: &str) -> Result<SystemdName, CgroupError> {
        let text = path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let (slice, prefix, name) = if text.is_empty() {
            ("", "runc", id)
        } else {
            let parts: Vec<&str> = text.split(':').collect();
            let [slice, prefix, name] = parts[..] else {
                return Err(CgroupError::BadPath {
                    path: text,
                    reason: "the systemd cgroup manager wants the form slice:prefix:name",
                });
            };
            (slice, prefix, name)
        };
        if name.is_empty() || [slice, prefix, name].iter().any(|p| p.contains('/')) {
            return Err(CgroupError::BadPath {
                path: text.clone(),
                reason: "in slice:prefix:name the name must not be empty and no part may hold a slash",
            });
        }
        let unit = match (name.ends_with(".slice"), prefix.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => format!("{name}.scope"),
            (false, false) => format!("{prefix}-{name}.scope"),
        };
        Ok(SystemdName { slice: slice.to_owned(), unit })
    }
}

#[cfg(test)]
mod tests;
