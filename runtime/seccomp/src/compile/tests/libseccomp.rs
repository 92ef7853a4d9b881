//! Equivalence with libseccomp, which runc uses: filters of both are run on the same calls.
//!
//! The C program below feeds a profile to the library and prints its filter. It needs a C compiler and libseccomp's
//! headers (Debian: gcc, libseccomp-dev), which `make test` installs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use proptest::test_runner::{Config, TestRunner};

use super::interpreter::{Data, run};
use super::*;

const PROGRAM: &str = r#"
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* lines: "default VALUE", "arch NUMBER", "known NAME" (answered on stderr), "rule NAME VALUE COUNT (INDEX OP A B)*", "end" */
int main(void) {
    char word[64], name[128];
    scmp_filter_ctx ctx = NULL;
    while (scanf("%63s", word) == 1) {
        if (!strcmp(word, "default")) {
            unsigned value; scanf("%u", &value);
            ctx = seccomp_init(value);
            if (!ctx) return 2;
        } else if (!strcmp(word, "optimize")) {
            if (seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2)) return 3;
        } else if (!strcmp(word, "arch")) {
            unsigned arch; scanf("%u", &arch);
            int rc = seccomp_arch_add(ctx, arch);
            if (rc && rc != -EEXIST) return 4;
        } else if (!strcmp(word, "rule")) {
            unsigned value, count; scanf("%127s %u %u", name, &value, &count);
            struct scmp_arg_cmp cmp[6];
            for (unsigned i = 0; i < count; i++) {
                unsigned index, op; unsigned long long a, b;
                scanf("%u %u %llu %llu", &index, &op, &a, &b);
                cmp[i] = (struct scmp_arg_cmp){ index, op, a, b };
            }
            int nr = seccomp_syscall_resolve_name(name);
            if (nr == __NR_SCMP_ERROR) continue;
            int rc = seccomp_rule_add_array(ctx, value, nr, count, cmp);
            if (rc) { fprintf(stderr, "rule %s: %d\n", name, rc); return 5; }
        } else if (!strcmp(word, "known")) {
            scanf("%127s", name);
            printf("%d\n", seccomp_syscall_resolve_name(name) != __NR_SCMP_ERROR);
        } else if (!strcmp(word, "end")) {
            fflush(stdout);
            return seccomp_export_bpf(ctx, 1) ? 6 : 0;
        }
    }
    return 0;
}
"#;

/// The built program, in a directory of its own that lives as long as this process.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (source, binary) = (dir.path().join("export.c"), dir.path().join("export"));
        std::fs::write(&source, PROGRAM).unwrap();
        let out = Command::new("cc").arg("-o").args([&binary, &source]).arg("-lseccomp").output();
        let out = out.expect("a C compiler is needed to compare with libseccomp (Debian: gcc)");
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "libseccomp's headers are needed (Debian: libseccomp-dev): {text}");
        // loaded here, so that the file can go before this process does
        let copy = std::env::temp_dir().join(format!("wharf-test-{}-seccomp", std::process::id()));
        std::fs::copy(&binary, &copy).unwrap();
        copy
    })
}

/// Runs the program with a script; its standard output.
fn export(script: &str) -> Vec<u8> {
    let mut child = Command::new(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(script.as_bytes()).unwrap();
    drop(input);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{:?} {}\n{script}", out.status, String::from_utf8_lossy(&out.stderr));
    out.stdout
}

struct Cleanup;
impl Drop for Cleanup {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(program());
    }
}

fn known(names: &BTreeSet<String>) -> BTreeSet<String> {
    let script: String = names.iter().map(|n| format!("known {n}\n")).collect();
    let out = String::from_utf8(export(&script)).unwrap();
    names.iter().zip(out.lines()).filter(|(_, l)| *l == "1").map(|(n, _)| n.clone()).collect()
}

/// What runc would tell libseccomp.
fn script(profile: &LinuxSeccomp) -> String {
    let default = value(profile.default_action(), profile.default_errno_ret(), "").unwrap();
    let mut out = format!("default {default}\n");
    if profile.syscalls().as_ref().map_or(0, Vec::len) > 32 {
        out.push_str("optimize\n");
    }
    for arch in profile.architectures().iter().flatten() {
        out.push_str(&format!("arch {}\n", *arch as u32));
    }
    for call in profile.syscalls().iter().flatten() {
        let v = value(call.action(), call.errno_ret(), "").unwrap();
        if v == default {
            continue;
        }
        let args = call.args().clone().unwrap_or_default();
        let mut seen = BTreeSet::new();
        let repeated = !args.iter().all(|a| seen.insert(a.index()));
        let sets: Vec<Vec<_>> =
            if repeated { args.iter().map(|a| vec![*a]).collect() } else { vec![args.clone()] };
        for name in call.names() {
            for set in &sets {
                out.push_str(&format!("rule {name} {v} {}", set.len()));
                for a in set {
                    let second = a.value_two().unwrap_or(0);
                    out.push_str(&format!(" {} {} {} {second}", a.index(), a.op() as u32, a.value()));
                }
                out.push('\n');
            }
        }
    }
    out.push_str("end\n");
    out
}

fn theirs(profile: &LinuxSeccomp) -> Vec<SockFilter> {
    export(&script(profile))
        .chunks_exact(8)
        .map(|c| SockFilter {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        })
        .collect()
}

/// Where runc puts ENOSYS before libseccomp's filter: above the highest number that the profile names.
fn too_new(profile: &LinuxSeccomp, data: &Data) -> bool {
    let default = value(profile.default_action(), profile.default_errno_ret(), "").unwrap();
    if is_permissive(default) {
        return false;
    }
    let mut columns: BTreeSet<Column> =
        profile.architectures().iter().flatten().filter_map(|a| Column::of(*a)).collect();
    columns.insert(Column::X86_64);
    let x32 = data.arch == X64 && data.nr & X32_BIT != 0;
    columns.into_iter().filter(|c| c.audit() == data.arch && (*c == Column::X32) == x32).any(|c| {
        let names = profile.syscalls().iter().flatten().flat_map(|s| s.names());
        names.filter_map(|n| lookup(n, c)).max().is_some_and(|highest| data.nr > highest)
    })
}

fn compare(profile: &LinuxSeccomp, values: &[u64]) -> usize {
    let (mine, theirs) = (compile(profile).unwrap().filter, theirs(profile));
    let mut cases = 0;
    let numbers = (0..480).chain(0x4000_0000..0x4000_0240).chain([
        0x3fff_ffff,
        0xf0002,
        0xf0005,
        0x7fff_ffff,
        u32::MAX,
    ]);
    for nr in numbers {
        for arch in [X64, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 5] {
            for (i, v) in values.iter().enumerate() {
                let mut args = [*v; 6];
                args[1] = values[(i + 1) % values.len()];
                args[2] = values[(i + 2) % values.len()];
                let data = Data { nr, arch, args };
                let want = if too_new(profile, &data) { UNKNOWN_CALL } else { run(&theirs, &data).0 };
                let got = run(&mine, &data).0;
                assert_eq!(got, want, "call {nr:#x} on {arch:#x} with {args:x?}\n{}", script(profile));
                cases += 1;
            }
        }
    }
    cases
}

/// The profile without the calls that the installed library is too old for.
fn without_unknown(profile: &LinuxSeccomp) -> LinuxSeccomp {
    let names = profile.syscalls().iter().flatten().flat_map(|s| s.names().clone()).collect();
    let known = known(&names);
    let mut out = profile.clone();
    let calls = profile.syscalls().iter().flatten().filter_map(|c| {
        let mut c = c.clone();
        let names: Vec<String> = c.names().iter().filter(|n| known.contains(*n)).cloned().collect();
        c.set_names(names);
        (!c.names().is_empty()).then_some(c)
    });
    out.set_syscalls(Some(calls.collect()));
    out
}

/// The profile with one entry for each call, and in it one condition for each argument: libseccomp 2.5 merges more
/// of them wrongly (`arg < 0` or `arg >= 1 << 32` is true for 1 there). What such profiles mean is checked against
/// their definition in the tests beside this one.
fn simple(profile: &mut LinuxSeccomp) {
    let mut seen = BTreeSet::new();
    let mut calls = profile.syscalls().clone().unwrap_or_default();
    for call in &mut calls {
        let names = call.names().iter().filter(|n| seen.insert((*n).clone())).cloned().collect();
        let mut indices = BTreeSet::new();
        let args = call.args().clone().unwrap_or_default();
        let args: Vec<_> = args.into_iter().filter(|a| indices.insert(a.index())).collect();
        call.set_names(names).set_args(Some(args).filter(|a| !a.is_empty()));
    }
    // multiplexed calls of x86 are several entries of one number
    if profile.architectures().iter().flatten().any(|a| *a == Arch::ScmpArchX86) {
        for call in &mut calls {
            let names: Vec<String> =
                call.names().iter().filter(|n| multiplexed(n).is_none()).cloned().collect();
            if call.args().is_some() {
                call.set_names(names);
            }
        }
    }
    // a call that every architecture has goes first: libseccomp 2.5 forgets to load the call's number if the first
    // of an architecture is one that it lacks
    let mut first = LinuxSyscall::default();
    first
        .set_names(vec!["getpid".into()])
        .set_action(calls.first().map_or_else(Default::default, LinuxSyscall::action));
    calls.insert(0, first);
    profile.set_syscalls(Some(calls));
}

#[test]
fn filters_decide_as_libseccomps_do() {
    let _cleanup = Cleanup;
    let values = [0, 1, 2, 38, 40, 0x7e02_0000, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX];
    let mut cases = 0;
    for extra in [&[][..], &["CAP_SYS_ADMIN"], &["CAP_SYS_PTRACE", "CAP_NET_ADMIN"]] {
        cases += compare(&without_unknown(&docker(extra)), &values);
    }
    println!("{cases} cases of Docker's profile");

    let mut runner = TestRunner::new(Config::with_cases((Config::default().cases / 4).max(1)));
    let run = runner.run(&super::any_profile(), |mut profile| {
        simple(&mut profile);
        compare(&profile, &[0, 1, 2, 17, 0xffff_ffff, 0x1_0000_0001, u64::MAX]);
        Ok(())
    });
    run.unwrap();
}
