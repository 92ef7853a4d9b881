//! A forked process puts itself into a cgroup. This program has no test harness, since forking wants one thread.

use std::path::Path;
use std::time::{Duration, Instant};

use wharf_cgroups::{Cgroup, Driver, Hierarchies, Plan};
use wharf_sys::fork::{Fork, Forked, exit_now};

const NAME: &str = "root_a_process_joins_every_hierarchy_by_itself";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // what cargo nextest asks of a test program
    if args.iter().any(|a| a == "--list") {
        if !args.iter().any(|a| a == "--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    assert!(rustix::process::geteuid().is_root(), "this test makes cgroups: run it as root");
    let h = Hierarchies::detect().unwrap();
    // pids repeat in isolated runs side by side; cgroups are the machine's
    let dir = tempfile::Builder::new().prefix("wharf-test-").tempdir().unwrap();
    let name = format!("/{}", dir.path().file_name().unwrap().to_string_lossy());
    let plan = Plan::new(&h, Driver::Cgroupfs, Some(Path::new(&name)), "id").unwrap();
    let cgroup = Cgroup::create(&h, &plan).unwrap();
    let joined = join(&cgroup);
    cgroup.delete().unwrap();
    let (lines, inside, took) = joined;
    assert!(inside, "not in every hierarchy:\n{lines}");
    println!("test {NAME} ... ok ({} µs)", took.as_micros());
}

/// The child's /proc/PID/cgroup, whether all of it is below the cgroup, and how long joining took.
fn join(cgroup: &Cgroup) -> (String, bool, Duration) {
    let joiner = cgroup.joiner().unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let (ready_reader, ready_writer) = rustix::pipe::pipe().unwrap();
    let begin = Instant::now();
    let fork = Fork { cgroup: joiner.clone_into(), ..Fork::default() };
    match fork.fork().unwrap() {
        Forked::Child => {
            let code = i32::from(joiner.join_self().is_err());
            drop((writer, ready_reader));
            let _ = rustix::io::write(&ready_writer, b"x");
            let _ = rustix::io::read(&reader, &mut [0u8; 1]);
            exit_now(code)
        }
        Forked::Parent { pid, .. } => {
            drop(ready_writer);
            let _ = rustix::io::read(&ready_reader, &mut [0u8; 1]);
            let took = begin.elapsed();
            let lines = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            drop(writer);
            let pid = rustix::process::Pid::from_raw(pid);
            let status = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
            assert_eq!(status.unwrap().1.exit_status(), Some(0));
            let inside = lines.lines().all(|l| l.contains("/wharf-test-"));
            (lines, inside, took)
        }
    }
}
