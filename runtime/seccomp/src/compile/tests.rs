mod interpreter;
mod libseccomp;

use std::time::Instant;

use oci_spec::runtime::*;
use wharf_oci::seccomp::{Facts, default_profile};

use super::*;
use interpreter::{Data, run};
use proptest::prelude::*;

const X64: u32 = 0xc000_003e;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

pub(super) fn docker(extra: &[&str]) -> LinuxSeccomp {
    let capabilities: Vec<String> =
        wharf_oci::caps::DEFAULT.iter().chain(extra).map(|c| (*c).to_owned()).collect();
    default_profile(&Facts { capabilities: &capabilities, arch: "x86_64", kernel: (6, 1) }).unwrap()
}

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn decide(filter: &[SockFilter], nr: u32, args: [u64; 6]) -> u32 {
    run(filter, &Data { nr, arch: X64, args }).0
}

#[test]
fn dockers_profile_decides_as_its_words_say() {
    let p = compile(&docker(&[])).unwrap();
    let d = |name: &str, args: [u64; 6]| decide(&p.filter, lookup(name, Column::X86_64).unwrap(), args);
    let none = [0; 6];
    assert_eq!(d("read", none), ALLOW);
    assert_eq!(d("mount", none), EPERM);
    assert_eq!(d("clone", [0x7e02_0000, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(d("clone", [0x11, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(d("clone", [0x1000_0011, 0, 0, 0, 0, 0]), EPERM, "CLONE_NEWUSER");
    assert_eq!(d("clone3", none), ENOSYS);
    assert_eq!(d("personality", [0xffff_ffff, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(d("personality", [0x1_0000_0000, 0, 0, 0, 0, 0]), EPERM, "the upper half counts");
    assert_eq!(d("socket", [38, 1, 0, 0, 0, 0]), EPERM, "AF_ALG");
    assert_eq!(d("socket", [2, 1, 0, 0, 0, 0]), ALLOW);
    assert_eq!(decide(&p.filter, 4000, none), ENOSYS, "newer than the profile");
    assert_eq!(run(&p.filter, &Data { nr: 0, arch: 0xc000_00b7, args: none }).0, KILL_THREAD);
    assert_eq!((p.flags, p.notify), (4, false), "without flags SPEC_ALLOW is one, as with runc");
}

/// `semop` of x86 is a case of `ipc`, 117 there, above `mkdir`, which is the highest that has a number of its own.
#[test]
fn calls_above_the_highest_named_are_unknown_multiplexed_ones_too() {
    let p = profile(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": ["mkdir", "semop"], "action": "SCMP_ACT_ALLOW"}]}"#,
    );
    let filter = compile(&p).unwrap().filter;
    let x86 = |nr| run(&filter, &Data { nr, arch: 0x4000_0003, args: [1; 6] }).0;
    assert_eq!([38, 39, 40, 116, 117, 118].map(x86), [EPERM, ALLOW, ENOSYS, ENOSYS, ENOSYS, ENOSYS]);
}

/// Calls through which containers have reached the kernel: CVE-2026-31431 (AF_ALG), CVE-2022-0185 (fsconfig),
/// CVE-2016-0728 (keyctl), CVE-2021-22555 (unshare), CVE-2017-16995 (bpf), and io_uring, by either way of each call.
#[test]
fn dockers_profile_closes_what_was_a_way_out() {
    let p = compile(&docker(&[])).unwrap();
    let closed =
        ["fsconfig", "fsopen", "keyctl", "add_key", "request_key", "unshare", "setns", "bpf", "userfaultfd"];
    for name in
        closed.into_iter().chain(["io_uring_setup", "perf_event_open", "kexec_load", "open_by_handle_at"])
    {
        let decided = decide(&p.filter, lookup(name, Column::X86_64).unwrap(), [0; 6]);
        assert_eq!(decided, EPERM, "{name}");
    }
    for upper in [0, 1 << 32] {
        assert_eq!(decide(&p.filter, 41, [upper | 38, 5, 0, 0, 0, 0]), EPERM, "AF_ALG of type {upper:#x}");
    }
    // by socket(2) of 32 bits; socketcall(2), whose arguments no filter sees, is open as in Docker's profile
    let x86 = |nr, args| run(&p.filter, &Data { nr, arch: 0x4000_0003, args }).0;
    assert_eq!(x86(359, [38, 5, 0, 0, 0, 0]), EPERM);
}

#[test]
fn a_workloads_call_costs_few_instructions() {
    let p = compile(&docker(&[])).unwrap();
    let mut most = 0;
    for nr in 0..470 {
        most = most.max(run(&p.filter, &Data { nr, arch: X64, args: [0; 6] }).1);
    }
    assert!(most <= 24, "{most} instructions in the worst case");
    assert!(p.filter.len() < 1000, "{} instructions in all", p.filter.len());
}

#[test]
fn compiling_takes_well_under_a_millisecond_when_optimised() {
    let profile = docker(&[]);
    let each = |_| {
        let begin = Instant::now();
        compile(&profile).unwrap();
        begin.elapsed()
    };
    // this build is not optimised, and the machine may be busy: a bound for a blunder, not a measurement
    let best = (0..40).map(each).min().unwrap();
    assert!(best.as_millis() < 50, "{best:?}");
    println!("{best:?} a profile");
}

#[test]
fn every_action_has_the_kernels_number() {
    for (action, errno, want) in [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
        ("SCMP_ACT_ERRNO", Some(95), 0x0005_005f),
        ("SCMP_ACT_TRACE", Some(7), 0x7ff0_0007),
        ("SCMP_ACT_NOTIFY", None, 0x7fc0_0000),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
    ] {
        let errno = errno.map(|e| format!(",\"errnoRet\":{e}")).unwrap_or_default();
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["mkdir"],"action":"{action}"{errno}}}]}}"#
        );
        let p = compile(&profile(&json)).unwrap();
        assert_eq!(decide(&p.filter, 83, [0; 6]), want, "{action}");
        assert_eq!(decide(&p.filter, 84, [0; 6]), ALLOW);
        assert_eq!((p.notify, p.flags), if action == "SCMP_ACT_NOTIFY" { (true, 12) } else { (false, 4) });
    }
}

#[test]
fn operators_compare_all_64_bits() {
    let big = 0x1_0000_0005u64;
    let near = [0, 4, 5, 6, big - 1, big, big + 1, 0x2_0000_0005, u64::MAX];
    for (name, holds) in [
        ("NE", (|a, b| a != b) as fn(u64, u64) -> bool),
        ("EQ", |a, b| a == b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("GT", |a, b| a > b),
        ("GE", |a, b| a >= b),
    ] {
        for value in [0, 5, big, u64::MAX] {
            let json = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":1,"value":{value},"op":"SCMP_CMP_{name}"}}]}}]}}"#
            );
            let p = compile(&profile(&json)).unwrap();
            for arg in near {
                let want = if holds(arg, value) { ALLOW } else { EPERM };
                assert_eq!(decide(&p.filter, 83, [7, arg, 7, 7, 7, 7]), want, "{arg:#x} {name} {value:#x}");
            }
        }
    }
}

#[test]
fn conditions_of_an_entry_all_hold_unless_two_are_on_one_argument() {
    let entry = |second: u32| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["mkdir"],"action":"SCMP_ACT_ALLOW","args":[
            {{"index":0,"value":1,"op":"SCMP_CMP_EQ"}},{{"index":{second},"value":2,"op":"SCMP_CMP_EQ"}}]}}]}}"#
        )
    };
    let both = compile(&profile(&entry(1))).unwrap().filter;
    assert_eq!(decide(&both, 83, [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(decide(&both, 83, [1, 0, 0, 0, 0, 0]), EPERM);
    let either = compile(&profile(&entry(0))).unwrap().filter;
    assert_eq!(decide(&either, 83, [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(decide(&either, 83, [3, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn new_calls_are_unknown_only_where_the_default_denies() {
    let with = |default: &str, names: &str| {
        let json = format!(
            r#"{{"defaultAction":"{default}","syscalls":[{{"names":[{names}],"action":"SCMP_ACT_ALLOW"}}]}}"#
        );
        decide(&compile(&profile(&json)).unwrap().filter, 300, [0; 6])
    };
    assert_eq!(with("SCMP_ACT_ERRNO", r#""mkdir","nonsense""#), ENOSYS);
    assert_eq!(with("SCMP_ACT_KILL_PROCESS", r#""mkdir""#), ENOSYS);
    assert_eq!(with("SCMP_ACT_LOG", r#""mkdir""#), 0x7ffc_0000);
    assert_eq!(
        with("SCMP_ACT_ERRNO", r#""nonsense""#),
        EPERM,
        "a profile that names no call is old in no way"
    );
}

#[test]
fn x32_is_its_own_or_ends_the_thread() {
    let with = |arches: &str| {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","architectures":[{arches}],
            "syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW"}}]}}"#
        );
        compile(&profile(&json)).unwrap().filter
    };
    let without = with("\"SCMP_ARCH_X86_64\"");
    assert_eq!(decide(&without, 0x4000_0000, [0; 6]), KILL_THREAD);
    let x32 = with("\"SCMP_ARCH_X32\"");
    assert_eq!(decide(&x32, 0x4000_0000, [0; 6]), ALLOW);
    assert_eq!(decide(&x32, 0x4000_0009, [0; 6]), ENOSYS);
    assert_eq!(decide(&x32, 0, [0; 6]), ALLOW);
}

#[test]
fn what_cannot_be_is_named() {
    for (json, word) in [
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "linux.seccomp.defaultAction: "),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#, "linux.seccomp.defaultErrnoRet: "),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["write"],"action":"SCMP_ACT_NOTIFY"}]}"#,
            "syscalls[0].action: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL",
            "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            "syscalls[0].args[0].index: 6",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[""],"action":"SCMP_ACT_KILL"}]}"#,
            "syscalls[0].names",
        ),
    ] {
        let error = compile(&profile(json)).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.kind(), wharf_kinds::Kind::InvalidArgument);
    }
}

#[test]
fn a_profile_too_long_for_the_kernel_is_refused() {
    let args: Vec<String> =
        (0..1500).map(|v| format!(r#"{{"index":0,"value":{v},"op":"SCMP_CMP_EQ"}}"#)).collect();
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{}]}}]}}"#,
        args.join(",")
    );
    assert!(matches!(compile(&profile(&json)), Err(SeccompError::TooLong(_))));
}

#[test]
fn flags_reach_the_kernel_where_they_have_a_meaning() {
    let json = |action: &str| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls":[{{"names":["mkdir"],"action":"{action}"}}]}}"#
        )
    };
    assert_eq!(compile(&profile(&json("SCMP_ACT_ERRNO"))).unwrap().flags, 0b110);
    assert_eq!(compile(&profile(&json("SCMP_ACT_NOTIFY"))).unwrap().flags, 0b10_1110);
}

/// Profiles with one action besides the default, any conditions, and any architectures.
pub(super) fn any_profile() -> impl Strategy<Value = LinuxSeccomp> {
    let names = [
        "read",
        "write",
        "open",
        "openat",
        "mkdir",
        "clone",
        "socket",
        "accept",
        "sendto",
        "semop",
        "shmat",
        "personality",
        "chown32",
        "fstat64",
        "socketcall",
        "ipc",
        "execve",
        "kill",
        "arch_prctl",
        "clock_gettime64",
        "ptrace",
        "nonsense",
    ];
    let name = prop::sample::select(names.to_vec()).prop_map(str::to_owned);
    let number =
        prop::sample::select(vec![0u64, 1, 2, 16, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX]);
    let operator = prop::sample::select({
        use LinuxSeccompOperator as O;
        vec![
            O::ScmpCmpNe,
            O::ScmpCmpLt,
            O::ScmpCmpLe,
            O::ScmpCmpEq,
            O::ScmpCmpGe,
            O::ScmpCmpGt,
            O::ScmpCmpMaskedEq,
        ]
    });
    let arg = (0usize..4, operator, number.clone(), number).prop_map(|(index, op, a, b)| {
        LinuxSeccompArgBuilder::default().index(index).value(a).value_two(b).op(op).build().unwrap()
    });
    let call = (prop::collection::vec(name, 1..4), prop::collection::vec(arg, 0..4));
    let others = vec![Arch::ScmpArchX86, Arch::ScmpArchX32, Arch::ScmpArchAarch64, Arch::ScmpArchArm];
    let arches = prop::sample::subsequence(others, 0..=4);
    (prop::collection::vec(call, 0..8), arches, any::<bool>()).prop_map(|(calls, arches, deny)| {
        let (default, action) = match deny {
            true => (LinuxSeccompAction::ScmpActErrno, LinuxSeccompAction::ScmpActAllow),
            false => (LinuxSeccompAction::ScmpActAllow, LinuxSeccompAction::ScmpActTrap),
        };
        let calls = calls.into_iter().map(|(names, args)| {
            let mut call = LinuxSyscall::default();
            call.set_names(names).set_action(action).set_args(Some(args).filter(|a| !a.is_empty()));
            call
        });
        let mut profile = LinuxSeccomp::default();
        profile
            .set_default_action(default)
            .set_architectures(Some(arches))
            .set_syscalls(Some(calls.collect()));
        profile
    })
}

/// What a profile means for a call of x86-64, by its words alone.
fn meaning(profile: &LinuxSeccomp, name: &str, args: [u64; 6]) -> u32 {
    let default = value(profile.default_action(), None, "").unwrap();
    let holds = |a: &LinuxSeccompArg| {
        let (arg, v) = (args[a.index()], a.value());
        match a.op() {
            LinuxSeccompOperator::ScmpCmpNe => arg != v,
            LinuxSeccompOperator::ScmpCmpLt => arg < v,
            LinuxSeccompOperator::ScmpCmpLe => arg <= v,
            LinuxSeccompOperator::ScmpCmpEq => arg == v,
            LinuxSeccompOperator::ScmpCmpGe => arg >= v,
            LinuxSeccompOperator::ScmpCmpGt => arg > v,
            LinuxSeccompOperator::ScmpCmpMaskedEq => arg & v == a.value_two().unwrap_or(0) & v,
        }
    };
    let applies = |call: &&LinuxSyscall| {
        let args = call.args().clone().unwrap_or_default();
        let mut seen = BTreeSet::new();
        let repeated = !args.iter().all(|a| seen.insert(a.index()));
        let fits = if repeated { args.iter().any(holds) } else { args.iter().all(holds) };
        call.names().iter().any(|n| n == name) && fits
    };
    let found = profile.syscalls().iter().flatten().find(applies);
    found.map_or(default, |call| value(call.action(), None, "").unwrap())
}

proptest! {
    #[test]
    fn filters_decide_as_the_profiles_words_say(profile in any_profile(), args in prop::collection::vec(
        prop::sample::select(vec![0u64, 1, 2, 17, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX]), 6)
    ) {
        let args: [u64; 6] = args.try_into().unwrap();
        let filter = compile(&profile).unwrap().filter;
        for name in ["read", "write", "open", "openat", "mkdir", "clone", "socket", "accept", "semop", "ptrace"] {
            let nr = lookup(name, Column::X86_64).unwrap();
            let got = decide(&filter, nr, args);
            if got != ENOSYS {
                prop_assert_eq!(got, meaning(&profile, name, args), "{} {:x?}", name, args);
            }
        }
    }
}
