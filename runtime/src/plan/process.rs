//! The process of a container or of an exec, checked and in the kernel's terms. Pure.

use super::affinity::{self, Affinity};
use super::capabilities::CapSets;
use crate::config::ConfigError;
use crate::spec::Process;
use oci_spec::runtime::{
    IOPriorityClass, LinuxResources, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimitType, Scheduler,
};
use rustix::process::{Resource, Rlimit};
use std::ffi::CString;
use std::path::PathBuf;
use wharf_sys::sched::SchedAttr;

/// Everything init applies to itself before it becomes the process.
#[derive(Debug, Clone)]
pub struct ProcessPlan {
    /// Never empty.
    pub args: Vec<String>,
    pub env: Vec<CString>,
    pub cwd: PathBuf,
    pub terminal: bool,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: Option<u32>,
    pub caps: CapSets,
    pub rlimits: Vec<(Resource, Rlimit)>,
    pub no_new_privileges: bool,
    pub oom_score_adj: Option<i32>,
    pub apparmor: Option<String>,
    pub selinux: Option<String>,
    pub scheduler: Option<SchedAttr>,
    /// The container is kept to some CPUs, which a scheduler may not go with.
    pub limited_cpus: bool,
    /// Class and level.
    pub io_priority: Option<(u8, u8)>,
    /// For exec only, as the specification says.
    pub affinity: Affinity,
}

/// Checks `process`; `at` is its JSON path ("process", or "" for an exec's own file).
pub fn plan(process: &Process, at: &str) -> Result<ProcessPlan, ConfigError> {
    let field = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    let args = process.args.clone().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(ConfigError::invalid(field("args"), "empty; the program to run is required"));
    }
    if let Some(i) = args.iter().position(|a| a.contains('\0')) {
        return Err(ConfigError::invalid(format!("{}[{i}]", field("args")), "contains a NUL byte"));
    }
    let env = environment(process.env.as_deref().unwrap_or_default(), &field("env"))?;
    let cwd = process.cwd.clone();
    if !cwd.is_absolute() {
        return Err(ConfigError::invalid(field("cwd"), format!("{:?} is not an absolute path", cwd)));
    }
    let terminal = process.terminal.unwrap_or(false);
    let console_size = match &process.console_size {
        None => None,
        Some(size) => match (u16::try_from(size.height()), u16::try_from(size.width())) {
            (Ok(0), Ok(0)) => None,
            (Ok(h), Ok(w)) => Some((h, w)),
            _ => {
                return Err(ConfigError::invalid(field("consoleSize"), "height and width are at most 65535"));
            }
        },
    };
    let user = &process.user;
    let umask = user.umask();
    if umask.is_some_and(|u| u > 0o777) {
        return Err(ConfigError::invalid(field("user.umask"), "more than 0777"));
    }
    for (name, id) in [("user.uid", user.uid()), ("user.gid", user.gid())] {
        if id == u32::MAX {
            return Err(ConfigError::invalid(
                field(name),
                "4294967295 means \"no change\" to the kernel; ids are 0 to 4294967294",
            ));
        }
    }
    Ok(ProcessPlan {
        args,
        env,
        cwd,
        terminal,
        console_size,
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask,
        caps: CapSets::from_spec(process.capabilities.as_ref()),
        rlimits: rlimits(process, &field("rlimits"))?,
        no_new_privileges: process.no_new_privileges.unwrap_or(false),
        oom_score_adj: oom_score(process.oom_score_adj, &field("oomScoreAdj"))?,
        apparmor: process.apparmor_profile.clone().filter(|p| !p.is_empty()),
        selinux: process.selinux_label.clone().filter(|l| !l.is_empty()),
        affinity: affinity::plan(process, &field("execCPUAffinity"))?,
        limited_cpus: false,
        scheduler: process.scheduler.as_ref().map(|s| scheduler(s, &field("scheduler"))).transpose()?,
        io_priority: match &process.io_priority {
            None => None,
            Some(p) => {
                let class = match p.class() {
                    IOPriorityClass::IoprioClassRt => 1,
                    IOPriorityClass::IoprioClassBe => 2,
                    IOPriorityClass::IoprioClassIdle => 3,
                };
                let level = u8::try_from(p.priority()).ok().filter(|l| *l <= 7);
                Some((
                    class,
                    level.ok_or_else(|| {
                        ConfigError::invalid(field("ioPriority.priority"), "not between 0 and 7")
                    })?,
                ))
            }
        },
    })
}

/// Whether the container's resources keep it to some CPUs.
pub fn limits_cpus(resources: &LinuxResources) -> bool {
    resources.cpu().as_ref().and_then(|c| c.cpus().as_ref()).is_some_and(|c| !c.is_empty())
}

/// Environment strings for execve. Of two with the same name the later is kept, since programs disagree which one counts.
fn environment(list: &[String], at: &str) -> Result<Vec<CString>, ConfigError> {
    let name = |s: &str| s.split('=').next().unwrap_or_default().to_owned();
    let mut last = std::collections::HashMap::with_capacity(list.len());
    for (i, entry) in list.iter().enumerate() {
        last.insert(name(entry), i);
    }
    let mut out = Vec::with_capacity(list.len());
    for (i, entry) in list.iter().enumerate() {
        if last.get(&name(entry)) != Some(&i) {
            continue;
        }
        match CString::new(entry.as_str()) {
            Ok(c) if entry.contains('=') => out.push(c),
            Ok(_) => {
                return Err(ConfigError::invalid(
                    format!("{at}[{i}]"),
                    format!("{entry:?} is not NAME=value"),
                ));
            }
            Err(_) => return Err(ConfigError::invalid(format!("{at}[{i}]"), "contains a NUL byte")),
        }
    }
    Ok(out)
}

fn oom_score(value: Option<i32>, at: &str) -> Result<Option<i32>, ConfigError> {
    match value {
        Some(v) if !(-1000..=1000).contains(&v) => {
            Err(ConfigError::invalid(at, format!("{v} is not between -1000 and 1000")))
        }
        v => Ok(v),
    }
}

fn rlimits(process: &Process, at: &str) -> Result<Vec<(Resource, Rlimit)>, ConfigError> {
    let mut out: Vec<(Resource, Rlimit)> = Vec::new();
    for (i, limit) in process.rlimits.iter().flatten().enumerate() {
        let resource = match limit.typ() {
            PosixRlimitType::RlimitCpu => Resource::Cpu,
            PosixRlimitType::RlimitFsize => Resource::Fsize,
            PosixRlimitType::RlimitData => Resource::Data,
            PosixRlimitType::RlimitStack => Resource::Stack,
            PosixRlimitType::RlimitCore => Resource::Core,
            PosixRlimitType::RlimitRss => Resource::Rss,
            PosixRlimitType::RlimitNproc => Resource::Nproc,
            PosixRlimitType::RlimitNofile => Resource::Nofile,
            PosixRlimitType::RlimitMemlock => Resource::Memlock,
            PosixRlimitType::RlimitAs => Resource::As,
            PosixRlimitType::RlimitLocks => Resource::Locks,
            PosixRlimitType::RlimitSigpending => Resource::Sigpending,
            PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
            PosixRlimitType::RlimitNice => Resource::Nice,
            PosixRlimitType::RlimitRtprio => Resource::Rtprio,
            PosixRlimitType::RlimitRttime => Resource::Rttime,
        };
        if out.iter().any(|(r, _)| *r == resource) {
            return Err(ConfigError::invalid(format!("{at}[{i}].type"), "given twice"));
        }
        if limit.soft() > limit.hard() {
            return Err(ConfigError::invalid(
                format!("{at}[{i}].soft"),
                format!("{} is more than the hard limit {}", limit.soft(), limit.hard()),
            ));
        }
        // the kernel's "no limit" is all ones, which rustix calls None
        let value = |v: u64| (v != u64::MAX).then_some(v);
        out.push((resource, Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) }));
    }
    Ok(out)
}

fn scheduler(s: &Scheduler, at: &str) -> Result<SchedAttr, ConfigError> {
    let policy = match s.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let nice = s.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(ConfigError::invalid(format!("{at}.nice"), format!("{nice} is not between -20 and 19")));
    }
    let priority = s.priority().unwrap_or(0);
    let priority = u32::try_from(priority)
        .map_err(|_| ConfigError::invalid(format!("{at}.priority"), format!("{priority} is negative")))?;
    if priority != 0 && !matches!(policy, 1 | 2) {
        return Err(ConfigError::invalid(format!("{at}.priority"), "only for SCHED_FIFO and SCHED_RR"));
    }
    let deadline = [s.runtime(), s.deadline(), s.period()].iter().any(|v| v.unwrap_or(0) != 0);
    if deadline && policy != 6 {
        return Err(ConfigError::invalid(
            format!("{at}.runtime"),
            "runtime, deadline and period are for SCHED_DEADLINE only",
        ));
    }
    let flags = s.flags().iter().flatten().map(|f| match f {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01u64,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    });
    Ok(SchedAttr {
        size: 0,
        policy,
        flags: flags.fold(0, |a, b| a | b),
        nice,
        priority,
        runtime: s.runtime().unwrap_or(0),
        deadline: s.deadline().unwrap_or(0),
        period: s.period().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Result<ProcessPlan, ConfigError> {
        plan(&serde_json::from_value(json).expect("process"), "process")
    }

    #[test]
    fn the_last_of_two_equal_names_is_the_environment() {
        let p = parse(
            serde_json::json!({"cwd":"/","user":{"uid":0,"gid":0},"args":["x"],"env":["A=1","B=2","A=3"]}),
        )
        .unwrap();
        let env: Vec<_> = p.env.iter().map(|c| c.to_str().unwrap()).collect();
        assert_eq!(env, ["B=2", "A=3"]);
    }

    #[test]
    fn errors_name_the_field() {
        let base = serde_json::json!({"cwd":"/","user":{"uid":0,"gid":0},"args":["x"]});
        let cases = [
            ("/args", serde_json::json!([]), "process.args"),
            ("/cwd", serde_json::json!("tmp"), "process.cwd"),
            ("/env", serde_json::json!(["A"]), "process.env[0]"),
            ("/oomScoreAdj", serde_json::json!(2000), "process.oomScoreAdj"),
            ("/user", serde_json::json!({"uid":4294967295u32,"gid":0}), "process.user.uid"),
            (
                "/rlimits",
                serde_json::json!([{"type":"RLIMIT_NOFILE","soft":2,"hard":1}]),
                "process.rlimits[0].soft",
            ),
            (
                "/rlimits",
                serde_json::json!([{"type":"RLIMIT_CPU","soft":1,"hard":1},{"type":"RLIMIT_CPU","soft":1,"hard":1}]),
                "process.rlimits[1].type",
            ),
            (
                "/ioPriority",
                serde_json::json!({"class":"IOPRIO_CLASS_BE","priority":9}),
                "process.ioPriority.priority",
            ),
        ];
        for (field, value, named) in cases {
            let mut json = base.clone();
            json.as_object_mut().unwrap().insert(field[1..].to_owned(), value);
            let err = parse(json).expect_err(named).to_string();
            assert!(err.starts_with(&format!("invalid configuration: {named}:")), "{err}");
        }
    }
}
