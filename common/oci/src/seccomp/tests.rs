use oci_spec::runtime::*;

use super::*;

fn caps(names: &[&str]) -> Vec<String> {
    names.iter().map(|s| (*s).to_owned()).collect()
}

fn facts<'a>(capabilities: &'a [String], arch: &'a str, kernel: (u32, u32)) -> Facts<'a> {
    Facts { capabilities, arch, kernel }
}

fn rules<'a>(profile: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
    profile.syscalls().iter().flatten().filter(|c| c.names().iter().any(|n| n == name)).collect()
}

#[test]
fn the_default_denies_what_it_does_not_name() {
    let c = caps(&crate::caps::DEFAULT);
    let p = default_profile(&facts(&c, "x86_64", (6, 1))).unwrap();
    assert_eq!(p.default_action(), LinuxSeccompAction::ScmpActErrno);
    assert_eq!(p.default_errno_ret(), Some(1));
    assert_eq!(
        p.architectures().as_deref(),
        Some(&[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32][..])
    );
    for allowed in ["read", "execve", "openat2", "futex", "ptrace", "chroot", "arch_prctl", "modify_ldt"] {
        assert_eq!(rules(&p, allowed).len(), 1, "{allowed}");
    }
    for denied in [
        "mount",
        "bpf",
        "unshare",
        "setns",
        "kexec_load",
        "init_module",
        "keyctl",
        "io_uring_setup",
        "reboot",
    ] {
        assert!(rules(&p, denied).is_empty(), "{denied}");
    }
}

#[test]
fn without_cap_sys_admin_clone_makes_no_namespaces_and_clone3_is_unknown() {
    let c = caps(&crate::caps::DEFAULT);
    let p = default_profile(&facts(&c, "x86_64", (6, 1))).unwrap();
    let clone = rules(&p, "clone");
    assert_eq!(clone.len(), 1);
    let arg = clone[0].args().as_ref().unwrap()[0];
    assert_eq!((arg.index(), arg.value(), arg.value_two()), (0, 0x7e02_0000, Some(0)));
    assert_eq!(arg.op(), LinuxSeccompOperator::ScmpCmpMaskedEq);
    let clone3 = rules(&p, "clone3");
    assert_eq!((clone3[0].action(), clone3[0].errno_ret()), (LinuxSeccompAction::ScmpActErrno, Some(38)));

    let c = caps(&["CAP_SYS_ADMIN"]);
    let p = default_profile(&facts(&c, "x86_64", (6, 1))).unwrap();
    assert!(rules(&p, "clone").iter().all(|r| r.args().is_none()));
    assert_eq!(rules(&p, "clone3")[0].action(), LinuxSeccompAction::ScmpActAllow);
    assert_eq!(rules(&p, "mount").len(), 1);
}

#[test]
fn conditions_follow_kernel_and_architecture() {
    let none = caps(&[]);
    let old = default_profile(&facts(&none, "x86_64", (4, 4))).unwrap();
    assert!(rules(&old, "ptrace").is_empty());
    let arm = default_profile(&facts(&none, "aarch64", (6, 1))).unwrap();
    assert_eq!(arm.architectures().as_deref(), Some(&[Arch::ScmpArchAarch64, Arch::ScmpArchArm][..]));
    assert!(rules(&arm, "arch_prctl").is_empty() && rules(&arm, "cacheflush").len() == 1);
}

#[test]
fn crypto_sockets_of_the_kernel_are_closed() {
    let none = caps(&[]);
    let p = default_profile(&facts(&none, "x86_64", (6, 1))).unwrap();
    let families: Vec<_> = rules(&p, "socket").iter().map(|r| r.args().as_ref().unwrap()[0]).collect();
    let open = |family: u64| {
        families.iter().any(|a| match a.op() {
            LinuxSeccompOperator::ScmpCmpLt => family < a.value(),
            LinuxSeccompOperator::ScmpCmpEq => family == a.value(),
            LinuxSeccompOperator::ScmpCmpGt => family > a.value(),
            op => panic!("{op:?}"),
        })
    };
    assert!(open(1) && open(2) && open(10) && open(16));
    assert!(!open(38), "AF_ALG");
    assert!(!open(40), "AF_VSOCK");
}

#[test]
fn dockers_form_is_read_with_its_conditions() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":null}],
        "flags":["SECCOMP_FILTER_FLAG_LOG"],"extra":1,
        "syscalls":[{"name":"chmod","action":"SCMP_ACT_ERRNO","args":null},
        {"names":["mkdir","rmdir"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"includes":{"caps":["CAP_KILL"],"minKernel":"5.0"},"excludes":{}},
        {"names":["sync"],"action":"SCMP_ACT_KILL","excludes":{"minKernel":"5.0"}}]}"#;
    let none = caps(&[]);
    let p = load(json, &facts(&none, "x86_64", (6, 1))).unwrap().unwrap();
    assert_eq!(p.syscalls().as_ref().unwrap().len(), 1);
    assert_eq!(p.architectures().as_ref().unwrap().len(), 1);
    assert_eq!(p.flags().as_ref().unwrap().len(), 1);
    let kill = caps(&["CAP_KILL"]);
    let p = load(json, &facts(&kill, "x86_64", (6, 1))).unwrap().unwrap();
    assert_eq!(rules(&p, "rmdir")[0].errno_ret(), Some(5));
    let p = load(json, &facts(&kill, "x86_64", (4, 9))).unwrap().unwrap();
    assert!(rules(&p, "rmdir").is_empty() && rules(&p, "sync").len() == 1);
}

#[test]
fn bad_profiles_are_errors_in_words() {
    let none = caps(&[]);
    let f = facts(&none, "x86_64", (6, 1));
    for (json, word) in [
        ("{", "Decoding seccomp profile failed"),
        (r#"{"defaultAction":"SCMP_ACT_FLY"}"#, "SCMP_ACT_FLY"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            "archMap",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_KILL"}]}"#,
            "'names'",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_KILL","includes":{"minKernel":"5"}}]}"#,
            "kernel version",
        ),
    ] {
        let error = load(json, &f).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(load("{}", &f).unwrap().is_none(), "an empty profile is none");
}
