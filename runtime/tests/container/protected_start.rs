//! The start from a read-only copy of the executable, also where the surroundings are odd. Tried with the program under
//! test and, if WHARF_BIN_DIR names a folder of built programs (`make test`), with the static one there, whose own
//! entry point does it before the C library has started.

use crate::bundle::{Bundle, RUNW};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use wharf_sys::seccomp::SockFilter;

fn programs() -> Vec<PathBuf> {
    let built = std::env::var_os("WHARF_BIN_DIR").map(|dir| Path::new(&dir).join("runw"));
    built.into_iter().chain([RUNW.into()]).collect()
}

/// Output and error output, of a command that has ended by itself.
#[track_caller]
fn code(what: &str, ended: &Output) -> i32 {
    let text = String::from_utf8_lossy(&ended.stderr);
    ended.status.code().unwrap_or_else(|| panic!("{what}: {}: {text}", ended.status))
}

#[track_caller]
fn succeeds(what: &str, ended: &Output) {
    assert_eq!(code(what, ended), 0, "{what}: {}", String::from_utf8_lossy(&ended.stderr));
}

/// Where a 64-bit ELF file begins, as an offset into it; None if a dynamic linker begins it.
fn entry(elf: &[u8]) -> Option<usize> {
    let number = |at: usize, bytes: usize| {
        elf[at..at + bytes].iter().rev().fold(0_usize, |n, byte| n << 8 | usize::from(*byte))
    };
    let (start, table, size, count) = (number(24, 8), number(32, 8), number(54, 2), number(56, 2));
    let headers = || (0..count).map(|i| table + i * size);
    const PT_LOAD: usize = 1;
    const PT_INTERP: usize = 3;
    if headers().any(|at| number(at, 4) == PT_INTERP) {
        return None;
    }
    headers().filter(|at| number(*at, 4) == PT_LOAD).find_map(|at| {
        let (offset, address, length) = (number(at + 8, 8), number(at + 16, 8), number(at + 32, 8));
        (address..address + length).contains(&start).then(|| offset + start - address)
    })
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_static_program_begins_at_the_protected_entry() {
    for program in programs() {
        let elf = fs::read(&program).unwrap();
        if let Some(entry) = entry(&elf) {
            // mov rbx, rsp; mov r12, rdx: the stack and the C library's argument are kept for its own entry point
            assert_eq!(elf[entry..entry + 6], [0x48, 0x89, 0xe3, 0x49, 0x89, 0xd4], "{}", program.display());
        }
    }
}

/// CVE-2019-5736: what an init runs from that waits to be started cannot be written to, from inside or outside, not even
/// when nobody runs it any more.
#[test]
fn root_the_file_that_init_runs_from_cannot_be_written() {
    for program in programs() {
        let b = Bundle::new("sleep 1000");
        b.write_config();
        let copy = b.copy_of(&program);
        let create = b.program(&copy).args(["create", &b.id]).stdout(Stdio::null()).status().unwrap();
        assert!(create.success());
        let pid = b.state()["pid"].to_string();
        let exe = rustix::fs::open(format!("/proc/{pid}/exe"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .unwrap();
        // of the container's processes, the one that looks is executed from the same copy until it is itself
        let script = "for exe in /proc/1/exe /proc/self/exe /proc/[0-9]*/exe; do \
            (case $(readlink $exe) in */busybox) exit;; esac; echo broken > $exe); done 2>/dev/null; true";
        let exec = b.program(&copy).args(["exec", &b.id, "sh", "-c", script]).output().unwrap();
        succeeds("exec", &exec);
        // what is executed by that name must not be a way to it either
        let again = b.program(&copy).args(["exec", &b.id, "/proc/self/exe", "--version"]).output().unwrap();
        code("exec of /proc/self/exe", &again);
        b.call(&["delete", "--force", &b.id]).ok();
        let path = format!("/proc/self/fd/{}", exe.as_raw_fd());
        let error = fs::OpenOptions::new().write(true).open(path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
        assert!(fs::read(&program).unwrap() == fs::read(copy).unwrap(), "{} was changed", program.display());
        b.assert_nothing_left();
    }
}

#[test]
fn root_it_starts_without_arguments_and_without_environment() {
    for program in programs() {
        let nothing = Command::new(&program).arg0("").env_clear().output().unwrap();
        assert_ne!(code("no arguments", &nothing), 0);
        let b = Bundle::new("true");
        b.write_config();
        let run = b.program(&program).arg0("").env_clear().args(["run", &b.id]).output().unwrap();
        succeeds("no environment", &run);
    }
}

#[test]
fn root_it_starts_with_its_standard_streams_closed() {
    for program in programs() {
        let b = Bundle::new("true");
        b.write_config();
        let run = b.program(&program).args(["run", &b.id]).output().unwrap();
        succeeds("open streams", &run);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]).arg(&program).arg("--root").arg(b.state_root());
        let run = shell.args(["run", &b.id]).current_dir(b.path()).output().unwrap();
        succeeds("closed streams", &run);
        b.assert_nothing_left();
    }
}

/// The entry point has room for 4096 variables; with more, the ordinary way is taken.
#[test]
fn root_any_number_of_variables_may_be_in_its_environment() {
    for program in programs() {
        let b = Bundle::new("true");
        b.write_config();
        for count in [4093, 4094, 4095, 4096, 9000] {
            let variables = (0..count).map(|i| (format!("V{i}"), "x"));
            let run = b.program(&program).env_clear().envs(variables).args(["run", &b.id]).output().unwrap();
            succeeds(&format!("{count} variables"), &run);
        }
    }
}

#[test]
fn root_without_proc_it_says_so_and_leaves_nothing() {
    for program in programs() {
        let b = Bundle::new("true");
        b.write_config();
        let mut shell = Command::new("unshare");
        // over it, since there may be another below
        shell.args(["--mount", "--propagation", "private", "/bin/sh", "-c"]);
        shell.arg("mount -t tmpfs none /proc && exec \"$0\" \"$@\"");
        shell.arg(&program).arg("--root").arg(b.state_root()).args(["run", &b.id]);
        let run = shell.current_dir(b.path()).output().unwrap();
        assert_ne!(code("no /proc", &run), 0);
        assert!(!run.stderr.is_empty());
        b.assert_nothing_left();
    }
}

/// Runs a command under a filter that refuses system call `number`.
fn refused(number: u32, mut command: Command) -> Output {
    let filter = [
        SockFilter { code: 0x20, jt: 0, jf: 0, k: 0 },
        SockFilter { code: 0x15, jt: 0, jf: 1, k: number },
        // SECCOMP_RET_ERRNO with EPERM, SECCOMP_RET_ALLOW
        SockFilter { code: 0x06, jt: 0, jf: 0, k: 0x0005_0001 },
        SockFilter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
    ];
    // the filter is of one thread, and of what it starts
    let thread = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        wharf_sys::seccomp::install(&filter, 0).unwrap();
        command.output().unwrap()
    });
    thread.join().unwrap()
}

#[test]
fn root_under_a_filter_it_finds_another_way_or_says_so() {
    const OPEN_TREE: u32 = 428;
    const MOUNT_SETATTR: u32 = 442;
    const EXECVEAT: u32 = if cfg!(target_arch = "x86_64") { 322 } else { 281 };
    for program in programs() {
        let b = Bundle::new("sleep 1000");
        b.run_detached();
        let exec = || {
            let mut command = b.program(&program);
            command.args(["exec", &b.id, "true"]);
            command
        };
        // a copy in memory takes the place of the mount
        for number in [OPEN_TREE, MOUNT_SETATTR] {
            succeeds(&format!("without system call {number}"), &refused(number, exec()));
        }
        let ended = refused(EXECVEAT, exec());
        assert_ne!(code("without execveat", &ended), 0);
        assert!(!ended.stderr.is_empty());
        succeeds("without a filter", &exec().output().unwrap());
    }
}
