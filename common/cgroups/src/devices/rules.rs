//! The meaning of a list of device rules: one policy, as the v1 controller would hold it.

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::CgroupError;

/// Reading, writing, making a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `m`
    pub mknod: bool,
}

impl Access {
    /// All three.
    pub const ALL: Access = Access { read: true, write: true, mknod: true };

    fn parse(text: &str) -> Option<Access> {
        let mut a = Access { read: false, write: false, mknod: false };
        for c in text.chars() {
            match c {
                'r' => a.read = true,
                'w' => a.write = true,
                'm' => a.mknod = true,
                // means nothing to the kernel; seen in configurations, since other runtimes pass over it
                'a' => {}
                _ => return None,
            }
        }
        Some(a)
    }

    /// The bits of the kernel's BPF_DEVCG_ACC_*: mknod 1, read 2, write 4.
    pub fn bits(self) -> u32 {
        u32::from(self.mknod) | u32::from(self.read) << 1 | u32::from(self.write) << 2
    }

    fn from_bits(bits: u32) -> Access {
        Access { mknod: bits & 1 != 0, read: bits & 2 != 0, write: bits & 4 != 0 }
    }
}

/// Block or character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `b`
    Block,
    /// `c`
    Char,
}

/// What is treated other than the default; none as a number is every number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Block or character.
    pub kind: DeviceKind,
    /// Every major number if none.
    pub major: Option<u32>,
    /// Every minor number if none.
    pub minor: Option<u32>,
    /// The rights excepted.
    pub access: Access,
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            DeviceKind::Block => "b ",
            DeviceKind::Char => "c ",
        })?;
        match self.major {
            Some(n) => write!(f, "{n}:")?,
            None => f.write_str("*:")?,
        }
        match self.minor {
            Some(n) => write!(f, "{n} ")?,
            None => f.write_str("* ")?,
        }
        let Access { read, write, mknod } = self.access;
        for (set, letter) in [(read, "r"), (write, "w"), (mknod, "m")] {
            if set {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// A default, and the exceptions from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether what no exception names is allowed.
    pub default_allow: bool,
    /// In the order of the rules.
    pub exceptions: Vec<Exception>,
}

impl Policy {
    /// Applies the rules in order to the policy that denies everything.
    ///
    /// A rule of type `a` with every number and right sets the default and forgets the exceptions. With a default
    /// of deny, allowing adds an exception and denying takes rights off the exception of the same numbers; with a
    /// default of allow the other way round (the controller's own rule, security/device_cgroup.c).
    pub fn new(rules: &[LinuxDeviceCgroup]) -> Result<Policy, CgroupError> {
        let mut policy = Policy::default();
        for (i, rule) in rules.iter().enumerate() {
            let bad = |reason: String| CgroupError::Invalid {
                field: format!("linux.resources.devices[{i}]"),
                reason,
            };
            let number = |n: Option<i64>, what: &str| match n {
                None | Some(-1) => Ok(None),
                Some(n) => u32::try_from(n).map(Some).map_err(|_| bad(format!("{what} {n} is out of range"))),
            };
            let (major, minor) = (number(rule.major(), "major")?, number(rule.minor(), "minor")?);
            let text = rule.access().as_deref().unwrap_or("");
            let access =
                Access::parse(text).ok_or_else(|| bad(format!("access {text:?} has letters besides rwm")))?;
            let typ = rule.typ().unwrap_or_default();
            let kinds: &[DeviceKind] = match typ {
                LinuxDeviceType::B => &[DeviceKind::Block],
                LinuxDeviceType::C | LinuxDeviceType::U => &[DeviceKind::Char],
                LinuxDeviceType::A => &[DeviceKind::Block, DeviceKind::Char],
                LinuxDeviceType::P => {
                    return Err(bad("type p (a FIFO) has no device rules; use a, b or c".into()));
                }
            };
            // no access at all reads as every access for the rule over everything: `{"allow": false}`
            let whole = text.is_empty() || access == Access::ALL;
            if typ == LinuxDeviceType::A && major.is_none() && minor.is_none() && whole {
                policy = Policy { default_allow: rule.allow(), exceptions: Vec::new() };
                continue;
            }
            for kind in kinds {
                policy.except(rule.allow(), Exception { kind: *kind, major, minor, access });
            }
        }
        Ok(policy)
    }

    fn except(&mut self, allow: bool, e: Exception) {
        let known =
            self.exceptions.iter().position(|o| (o.kind, o.major, o.minor) == (e.kind, e.major, e.minor));
        match (allow != self.default_allow, known) {
            (true, Some(i)) => {
                let bits = self.exceptions[i].access.bits() | e.access.bits();
                self.exceptions[i].access = Access::from_bits(bits);
            }
            (true, None) => self.exceptions.push(e),
            (false, Some(i)) => {
                let left = self.exceptions[i].access.bits() & !e.access.bits();
                match left {
                    0 => drop(self.exceptions.remove(i)),
                    bits => self.exceptions[i].access = Access::from_bits(bits),
                }
            }
            (false, None) => {}
        }
    }

    /// Whether a process may do all of `access` to the device: what the kernel decides with this policy.
    pub fn allows(&self, kind: DeviceKind, major: u32, minor: u32, access: Access) -> bool {
        let same = |e: &&Exception| {
            e.kind == kind && e.major.is_none_or(|m| m == major) && e.minor.is_none_or(|m| m == minor)
        };
        let asked = access.bits();
        match self.default_allow {
            true => !self.exceptions.iter().filter(same).any(|e| e.access.bits() & asked != 0),
            false => self.exceptions.iter().filter(same).any(|e| asked & !e.access.bits() == 0),
        }
    }
}
