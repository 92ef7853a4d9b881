//! runw's config.json, process.json and seccomp profiles.

use std::path::{Component, Path};

use oci_spec::runtime::LinuxSeccomp;
use runw::config::{ConfigError, parse};
use runw::host::Host;
use runw::plan::mounts::MountKind;
use runw::plan::{ContainerPlan, plan, process};
use runw::spec::{Process, Spec};
use wharf_seccomp::{Program, SeccompError, compile};

use crate::outcome;

/// Instructions that the kernel takes (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;

/// config.json as `create` reads it, and process.json as `exec` does. Every refusal comes here; nothing is touched.
pub fn config(data: &[u8]) -> u64 {
    let host = Host { apparmor: true, selinux: true };
    let planned = parse::<Spec>(data, "config.json").and_then(|spec| {
        let first = plan(&spec, Path::new("/bundle"), &host)?;
        let text = serde_json::to_vec(&spec).expect("what was parsed can be written");
        let again = outcome::must(parse::<Spec>(&text, "again"), "written and read again", &spec);
        outcome::must(plan(&again, Path::new("/bundle"), &host), "planned again", &spec);
        Ok(first)
    });
    if let Ok(plan) = &planned {
        check_plan(plan);
    }
    let count = |p: &ContainerPlan| p.mounts.len() + 16 * p.devices.len() + 256 * p.sysctl.len();
    let exec = parse::<Process>(data, "process.json").and_then(|p| process::plan(&p, "process"));
    outcome::of("config", &planned, count) ^ outcome::of("process", &exec, |p| p.rlimits.len()).rotate_left(1)
}

/// Paths that go on to the kernel are absolute and climb nowhere.
fn check_plan(plan: &ContainerPlan) {
    let clean = |p: &Path| p.is_absolute() && !p.components().any(|c| c == Component::ParentDir);
    for mount in &plan.mounts {
        assert!(clean(&mount.target), "{mount:?}");
        if let MountKind::Bind { source, .. } = &mount.kind {
            assert!(source.is_absolute(), "{mount:?}");
        }
    }
    for path in plan.masked.iter().chain(&plan.readonly) {
        assert!(clean(path), "{path:?}");
    }
    for (key, _) in &plan.sysctl {
        assert!(!key.split('/').any(|part| part == ".."), "sysctl {key:?}");
    }
}

/// A seccomp profile: what is compiled is a filter that the kernel's checker takes.
pub fn seccomp(data: &[u8]) -> u64 {
    let profile = match parse::<LinuxSeccomp>(data, "profile") {
        Ok(profile) => profile,
        Err(e) => return outcome::of("profile", &Err::<(), ConfigError>(e), |()| 0),
    };
    let program = compile(&profile);
    if let Ok(program) = &program {
        check_filter(program);
    }
    outcome::of::<_, SeccompError>("seccomp", &program, |p| p.filter.len())
}

/// The kernel's own conditions (bpf_check_classic): bounded, jumps forward and inside, a return at the end.
fn check_filter(program: &Program) {
    const RET: u16 = 0x06;
    const JUMP: u16 = 0x05;
    let filter = &program.filter;
    assert!(!filter.is_empty() && filter.len() <= MAX_INSTRUCTIONS, "{} instructions", filter.len());
    for (i, op) in filter.iter().enumerate() {
        if op.code == JUMP {
            assert!(i + 1 + (op.k as usize) < filter.len(), "jump out of the filter at {i}");
        } else if op.code & 0x07 == JUMP {
            let far = usize::from(op.jt.max(op.jf));
            assert!(i + 1 + far < filter.len(), "branch out of the filter at {i}");
        }
    }
    assert_eq!(filter.last().map(|op| op.code), Some(RET), "the last instruction returns");
}
