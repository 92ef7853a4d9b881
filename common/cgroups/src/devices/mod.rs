//! Which devices a cgroup's processes may use.

mod program;
mod rules;

use std::os::fd::AsFd;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};
use rustix::fs::OFlags;
use rustix::io::Errno;
use wharf_sys::bpf;

pub use program::compile;
pub use rules::{Access, DeviceKind, Exception, Policy};

use crate::cgroup::{Cgroup, Dir};
use crate::error::CgroupError;
use crate::file::{open, put};
use crate::hierarchy::Mode;

/// What runtimes allow every container, after the rules of its config: making any node, and the devices that the
/// OCI specification's default list has, with `/dev/ptmx` and the pseudo-terminals.
pub fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let rule = |typ, major: Option<i64>, minor: Option<i64>, access: &str| {
        let mut b = LinuxDeviceCgroupBuilder::default().allow(true).typ(typ).access(access);
        if let Some(major) = major {
            b = b.major(major);
        }
        if let Some(minor) = minor {
            b = b.minor(minor);
        }
        // every field is optional, so building cannot fail
        b.build().unwrap_or_default()
    };
    let mut rules =
        vec![rule(LinuxDeviceType::C, None, None, "m"), rule(LinuxDeviceType::B, None, None, "m")];
    for (major, minor) in [(1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9), (5, 2)] {
        rules.push(rule(LinuxDeviceType::C, Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(LinuxDeviceType::C, Some(136), None, "rwm"));
    rules
}

impl Cgroup {
    /// Makes `rules` the whole policy: what no rule allows is denied, later rules win over earlier ones.
    ///
    /// Version 1: files `devices.allow` and `devices.deny`. Version 2: a BPF program, in the place of a former one.
    /// In a user namespace, where the kernel lets nobody set device policies, nothing is done.
    pub fn apply_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
        let policy = Policy::new(rules)?;
        let done = match self.mode {
            Mode::Unified => match self.v2() {
                Some(dir) => attach(dir, &policy),
                None => return Ok(()),
            },
            Mode::Legacy | Mode::Hybrid => match self.dir("devices") {
                Some(dir) => write_files(self, dir, &policy),
                None => {
                    let e = CgroupError::MissingController {
                        controller: "devices".into(),
                        file: "linux.resources.devices".into(),
                    };
                    return if in_user_namespace() { Ok(()) } else { Err(e) };
                }
            },
        };
        match done {
            Err(e) if e.kind() == wharf_kinds::Kind::PermissionDenied && in_user_namespace() => Ok(()),
            other => other,
        }
    }
}

/// Version 1's files. Processes that are in the cgroup already keep what they have and are to have at every moment: rights
/// are added before others are taken, and where the default changes, which takes all away for a while, the processes
/// stand still meanwhile.
fn write_files(cgroup: &Cgroup, dir: &Dir, policy: &Policy) -> Result<(), CgroupError> {
    let (base, exceptions) = match policy.default_allow {
        true => ("devices.allow", "devices.deny"),
        false => ("devices.deny", "devices.allow"),
    };
    let wanted: Vec<String> = policy.exceptions.iter().map(ToString::to_string).collect();
    let from_nothing = || {
        dir.write(base, "a")?;
        write_rules(dir, exceptions, &wanted)
    };
    if !cgroup.existed() {
        return from_nothing();
    }
    let list = dir.read("devices.list")?;
    let now: Vec<&str> = list.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    // the list holds exceptions only while the default is to deny
    if !policy.default_allow && now != [EVERYTHING] {
        write_rules(dir, exceptions, &wanted)?;
        return write_rules(dir, "devices.deny", &surplus(&now, &wanted));
    }
    if policy.default_allow && wanted.is_empty() && now == [EVERYTHING] {
        return Ok(());
    }
    let stands = cgroup.procs()?.is_empty() || !matches!(cgroup.frozen(), Ok(false));
    if stands {
        return from_nothing();
    }
    cgroup.freeze()?;
    let done = from_nothing();
    cgroup.thaw().and(done)
}

/// What `devices.list` shows where the default is to allow.
const EVERYTHING: &str = "a *:* rwm";

/// The rights on the list beyond those wanted, device by device; a right that is wanted is not touched.
fn surplus(now: &[&str], wanted: &[String]) -> Vec<String> {
    let parts = |rule: &str| rule.rsplit_once(' ').map(|(d, a)| (d.to_owned(), a.to_owned()));
    let wanted: Vec<_> = wanted.iter().filter_map(|w| parts(w)).collect();
    let of = |(device, access): (String, String)| {
        let is_wanted = |right: &char| wanted.iter().any(|(d, a)| *d == device && a.contains(*right));
        let rest: String = access.chars().filter(|right| !is_wanted(right)).collect();
        (!rest.is_empty()).then(|| format!("{device} {rest}"))
    };
    now.iter().filter_map(|line| of(parts(line)?)).collect()
}

/// One rule a write, as the kernel wants it.
fn write_rules(dir: &Dir, name: &str, rules: &[String]) -> Result<(), CgroupError> {
    if rules.is_empty() {
        return Ok(());
    }
    let path = dir.path.join(name);
    let file = open(dir.fd.as_fd(), name, OFlags::WRONLY).map_err(|e| CgroupError::io("open", &path, e))?;
    for text in rules {
        put(&file, text.as_bytes()).map_err(|e| CgroupError::Write {
            path: path.clone(),
            value: text.clone(),
            source: e.into(),
            hint: String::new(),
        })?;
    }
    Ok(())
}

fn attach(dir: &Dir, policy: &Policy) -> Result<(), CgroupError> {
    let io = |act: &'static str| move |e: Errno| CgroupError::io(act, &dir.path, e);
    let program = bpf::load_cgroup_device(&compile(policy)).map_err(io("load the device program of"))?;
    let old = bpf::attached_cgroup_device(dir.fd.as_fd()).map_err(io("list the device programs of"))?;
    // first the new, then off with the old: at no time is everything allowed
    bpf::attach_cgroup_device(dir.fd.as_fd(), program.as_fd()).map_err(io("attach the device program to"))?;
    for former in old {
        bpf::detach_cgroup_device(dir.fd.as_fd(), former.as_fd())
            .map_err(io("detach a device program of"))?;
    }
    Ok(())
}

/// Whether ids are mapped here, which means that this is not the first user namespace.
pub(crate) fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let mut numbers = map.split_whitespace();
        !(numbers.next() == Some("0") && numbers.next() == Some("0") && numbers.next() == Some("4294967295"))
    })
}

#[cfg(test)]
mod tests;
