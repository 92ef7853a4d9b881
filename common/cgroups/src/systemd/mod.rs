//! The systemd driver: systemd makes the container's unit, asked over D-Bus, and the limits are its properties too,
//! so that it does not take them back.
//!
//! A scope cannot begin without a process. The container's first process does not exist when its cgroup is made, so a
//! process that does nothing holds the unit open until it does ([`Holder`]).
//!
//! Interface: org.freedesktop.systemd1(5).

mod annotation;
mod bus;
mod error;
mod holder;
pub mod properties;
pub mod wire;

use std::collections::HashMap;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

pub use bus::Bus;
pub use error::SystemdError;
pub use holder::Holder;
use wire::Value;

use crate::error::CgroupError;
use crate::hierarchy::Mode;

/// Which systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// The first process of the machine.
    System,
    /// The user's own (`systemd --user`).
    User,
}

impl Whose {
    /// The user's manager for everybody but root of the first user namespace.
    pub fn caller() -> Whose {
        if rustix::process::geteuid().is_root() && !crate::devices::in_user_namespace() {
            Whose::System
        } else {
            Whose::User
        }
    }
}

/// A container's unit, as it is kept in a state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Such as `runc-id.scope`.
    pub name: String,
    /// Such as `system.slice`.
    pub slice: String,
    /// Who has it.
    pub manager: Whose,
}

/// The error of a unit that is not loaded: gone, which is what is wanted of it.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

impl Unit {
    fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Begins the unit with the limits of `resources` and the properties of annotations `org.systemd.property.*`.
    /// Returns once it is active; the holder keeps it so until the container's first process is in it.
    pub fn start(
        &self,
        mode: Mode,
        id: &str,
        resources: &LinuxResources,
        annotations: &HashMap<String, String>,
    ) -> Result<Holder, CgroupError> {
        let from_annotations = annotation::properties(annotations)?;
        let limits = properties::of(mode, resources)?;
        let mut bus = Bus::connect(self.manager)?;
        let holder = Holder::start()?;
        self.start_on(&mut bus, id, holder.pid(), limits, from_annotations)?;
        Ok(holder)
    }

    /// What [`Unit::start`] asks for, on a connection that is there.
    pub fn start_on(
        &self,
        bus: &mut Bus,
        id: &str,
        pid: i32,
        limits: Vec<Property>,
        from_annotations: Vec<Property>,
    ) -> Result<(), SystemdError> {
        let mut all = vec![property("Description", Value::Str(format!("libcontainer container {id}")))];
        if self.is_slice() {
            all.push(property("Wants", Value::strings(&[&self.slice])));
        } else {
            all.push(property("Slice", Value::Str(self.slice.clone())));
            all.push(property("Delegate", Value::Bool(true)));
            all.push(property("PIDs", Value::Array("u".into(), vec![Value::U32(pid.cast_unsigned())])));
        }
        for name in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
            all.push(property(name, Value::Bool(true)));
        }
        // without it the unit would be ordered after basic.target and be stopped before everything else at shutdown
        all.push(property("DefaultDependencies", Value::Bool(false)));
        // the limit of tasks waits until the holder has gone: it may be one
        all.extend(limits.into_iter().filter(|p| p.name != "TasksMax"));
        let asked: Vec<String> = from_annotations.iter().map(|p| p.name.clone()).collect();
        all.extend(from_annotations);
        let body = || {
            vec![
                Value::Str(self.name.clone()),
                Value::Str("replace".into()),
                encode(&all),
                Value::Array("(sa(sv))".into(), Vec::new()),
            ]
        };
        match bus.job("StartTransientUnit", &self.name, body()) {
            // one that failed stays loaded until it is forgotten
            Err(e) if e.is("org.freedesktop.systemd1.UnitExists") && !self.is_slice() => {
                reset_failed(bus, &self.name)?;
                bus.job("StartTransientUnit", &self.name, body())
            }
            Err(e) if e.is("org.freedesktop.systemd1.UnitExists") => Ok(()),
            other => other,
        }
        .map_err(|e| e.naming(&asked))
    }

    /// Sets the unit's limits, until the machine's next start. To be followed by [`crate::Cgroup::apply`], which
    /// sets those for which systemd has no property.
    pub fn set(&self, mode: Mode, resources: &LinuxResources) -> Result<(), CgroupError> {
        let limits = properties::of(mode, resources)?;
        if limits.is_empty() {
            return Ok(());
        }
        Ok(self.set_on(&mut Bus::connect(self.manager)?, &limits)?)
    }

    /// Sets the limit of tasks alone, which [`Unit::start`] leaves out.
    pub fn set_tasks(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        match properties::tasks(resources) {
            Some(limit) => Ok(self.set_on(&mut Bus::connect(self.manager)?, &[limit])?),
            None => Ok(()),
        }
    }

    /// What [`Unit::set`] asks for, on a connection that is there.
    pub fn set_on(&self, bus: &mut Bus, limits: &[Property]) -> Result<(), SystemdError> {
        let body = vec![Value::Str(self.name.clone()), Value::Bool(true), encode(limits)];
        bus.call("SetUnitProperties", body).map(drop)
    }

    /// Moves a process into the unit, where the caller may not do it itself.
    pub fn attach(&self, pid: i32) -> Result<(), CgroupError> {
        Ok(self.attach_on(&mut Bus::connect(self.manager)?, pid)?)
    }

    /// What [`Unit::attach`] asks for, on a connection that is there.
    pub fn attach_on(&self, bus: &mut Bus, pid: i32) -> Result<(), SystemdError> {
        let pids = Value::Array("u".into(), vec![Value::U32(pid.cast_unsigned())]);
        let body = vec![Value::Str(self.name.clone()), Value::Str(String::new()), pids];
        bus.call("AttachProcessesToUnit", body).map(drop)
    }

    /// Ends the unit and has it forgotten. One that is gone is fine.
    pub fn stop(&self) -> Result<(), CgroupError> {
        Ok(self.stop_on(&mut Bus::connect(self.manager)?)?)
    }

    /// What [`Unit::stop`] asks for, on a connection that is there.
    pub fn stop_on(&self, bus: &mut Bus) -> Result<(), SystemdError> {
        let body = vec![Value::Str(self.name.clone()), Value::Str("replace".into())];
        match bus.job("StopUnit", &self.name, body) {
            Err(e) if e.is(NO_SUCH_UNIT) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => reset_failed(bus, &self.name),
        }
    }
}

fn reset_failed(bus: &mut Bus, unit: &str) -> Result<(), SystemdError> {
    match bus.call("ResetFailedUnit", vec![Value::Str(unit.to_owned())]) {
        Err(e) if !e.is(NO_SUCH_UNIT) => Err(e),
        _ => Ok(()),
    }
}

/// A unit's property.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// As systemd names it.
    pub name: String,
    /// Of the type that systemd wants.
    pub value: Value,
}

pub(crate) fn property(name: &str, value: Value) -> Property {
    Property { name: name.to_owned(), value }
}

fn encode(properties: &[Property]) -> Value {
    let pair = |p: &Property| {
        Value::Struct(vec![Value::Str(p.name.clone()), Value::Variant(Box::new(p.value.clone()))])
    };
    Value::Array("(sv)".into(), properties.iter().map(pair).collect())
}

/// The directories of a slice: `a-b.slice` is `a.slice/a-b.slice`, `-.slice` is the root. None if it is no slice's name.
pub(crate) fn expand_slice(slice: &str) -> Option<Vec<String>> {
    let name = slice.strip_suffix(".slice").filter(|n| !n.is_empty() && !n.contains('/'))?;
    if name == "-" {
        return Some(Vec::new());
    }
    let mut out: Vec<String> = Vec::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        out.push(format!("{prefix}{part}.slice"));
        prefix = format!("{prefix}{part}-");
    }
    Some(out)
}

/// The cgroup below which the manager has its units.
pub(crate) fn root(whose: Whose) -> Result<String, CgroupError> {
    match whose {
        // systemd itself is in init.scope of it; asking costs a connection
        Whose::System => {
            let path = std::path::Path::new("/proc/1/cgroup");
            let text = std::fs::read_to_string(path).map_err(|source| CgroupError::Io {
                act: "read",
                path: path.to_owned(),
                source,
            })?;
            let own = text
                .lines()
                .find_map(|l| l.strip_prefix("0::").or_else(|| l.split_once(":name=systemd:").map(|p| p.1)));
            Ok(own.unwrap_or("/").trim_end_matches("/init.scope").to_owned())
        }
        Whose::User => {
            let value = Bus::connect(whose)?.property("ControlGroup")?;
            Ok(value.text().unwrap_or("/").to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
