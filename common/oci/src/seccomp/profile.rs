//! A profile with conditions, and what is left of it for one container.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};

use super::ProfileError;

/// What conditions are decided by.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The container's bounding set, with `CAP_`.
    pub capabilities: &'a [String],
    /// The machine's architecture as Rust names it (`x86_64`, `aarch64`, …).
    pub arch: &'a str,
    /// Major and minor version of the running kernel.
    pub kernel: (u32, u32),
}

impl Facts<'_> {
    /// The architecture's name in profiles' conditions, which is Go's.
    fn condition_arch(&self) -> &str {
        match self.arch {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        }
    }
}

/// When a rule counts. Empty lists and none say nothing.
#[derive(Debug, Default)]
pub(super) struct When {
    pub(super) caps: Vec<String>,
    pub(super) without_caps: Vec<String>,
    pub(super) arches: Vec<String>,
    pub(super) not_arches: Vec<String>,
    pub(super) kernel: Option<(u32, u32)>,
    pub(super) before_kernel: Option<(u32, u32)>,
}

impl When {
    /// All of `caps`, none of `without_caps`, one of `arches`, none of `not_arches`, from `kernel` on and before
    /// `before_kernel`.
    fn holds(&self, facts: &Facts<'_>) -> bool {
        let has = |c: &String| facts.capabilities.contains(c);
        let arch = facts.condition_arch();
        let here = |a: &String| a == arch || a == facts.arch;
        self.caps.iter().all(has)
            && !self.without_caps.iter().any(has)
            && (self.arches.is_empty() || self.arches.iter().any(here))
            && !self.not_arches.iter().any(here)
            && self.kernel.is_none_or(|k| facts.kernel >= k)
            && self.before_kernel.is_none_or(|k| facts.kernel < k)
    }
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: LinuxSeccompAction,
    pub(super) errno: Option<u32>,
    pub(super) args: Vec<LinuxSeccompArg>,
    pub(super) when: When,
}

#[derive(Debug)]
pub(super) struct Profile {
    pub(super) default_action: LinuxSeccompAction,
    pub(super) default_errno: Option<u32>,
    /// Architectures that always count.
    pub(super) architectures: Vec<Arch>,
    /// Native architecture, and those that come with it.
    pub(super) arch_map: Vec<(Arch, Vec<Arch>)>,
    pub(super) flags: Vec<LinuxSeccompFilterFlag>,
    pub(super) listener_path: Option<String>,
    pub(super) listener_metadata: Option<String>,
    pub(super) rules: Vec<Rule>,
}

impl Profile {
    pub(super) fn resolve(self, facts: &Facts<'_>) -> Result<LinuxSeccomp, ProfileError> {
        let mut architectures = self.architectures;
        if let Some(native) = native(facts.arch)
            && let Some((arch, with)) = self.arch_map.into_iter().find(|(a, _)| *a == native)
        {
            architectures.push(arch);
            architectures.extend(with);
        }
        let mut calls: Vec<LinuxSyscall> = Vec::new();
        for rule in self.rules.into_iter().filter(|r| r.when.holds(facts)) {
            // one list of what is simply allowed keeps config.json small; order has no meaning without arguments
            let plain = rule.args.is_empty();
            let same = calls.iter_mut().find(|c| {
                plain && c.args().is_none() && c.action() == rule.action && c.errno_ret() == rule.errno
            });
            if let Some(call) = same {
                let mut names = call.names().clone();
                let new: Vec<String> = rule.names.into_iter().filter(|n| !names.contains(n)).collect();
                names.extend(new);
                call.set_names(names);
                continue;
            }
            let mut call = LinuxSyscall::default();
            call.set_names(rule.names)
                .set_action(rule.action)
                .set_errno_ret(rule.errno)
                .set_args(Some(rule.args).filter(|a| !a.is_empty()));
            calls.push(call);
        }
        let mut out = LinuxSeccomp::default();
        out.set_default_action(self.default_action)
            .set_default_errno_ret(self.default_errno)
            .set_architectures(Some(architectures).filter(|a| !a.is_empty()))
            .set_flags(Some(self.flags).filter(|f| !f.is_empty()))
            .set_listener_path(self.listener_path.map(Into::into))
            .set_listener_metadata(self.listener_metadata)
            .set_syscalls(Some(calls).filter(|c| !c.is_empty()));
        Ok(out)
    }
}

fn native(arch: &str) -> Option<Arch> {
    Some(match arch {
        "x86_64" => Arch::ScmpArchX86_64,
        "x86" => Arch::ScmpArchX86,
        "aarch64" => Arch::ScmpArchAarch64,
        "arm" => Arch::ScmpArchArm,
        "riscv64" => Arch::ScmpArchRiscv64,
        "s390x" => Arch::ScmpArchS390x,
        "powerpc64" => Arch::ScmpArchPpc64le,
        "loongarch64" => Arch::ScmpArchLoongarch64,
        _ => return None,
    })
}

/// A word of the specification, such as `SCMP_ACT_ALLOW`, as its value.
pub(super) fn word<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, ProfileError> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| ProfileError::Unknown { what, word: text.to_owned() })
}

/// `4.8` as numbers.
pub(super) fn kernel(text: &str) -> Result<(u32, u32), ProfileError> {
    text.split_once('.')
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
        .ok_or_else(|| ProfileError::Kernel(text.to_owned()))
}
