use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn root_exec_runs_in_the_containers_namespaces() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let pid = b.state()["pid"].to_string();
    for ns in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let inside = b.exec(&["readlink", &format!("/proc/self/ns/{ns}")]).ok();
        let host = std::fs::read_link(format!("/proc/{pid}/ns/{ns}")).unwrap();
        assert_eq!(inside.trim(), host.to_string_lossy(), "{ns}");
    }
    let cgroup = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroup(&pid).contains(&b.id));
    let inside = b.exec(&["cat", "/proc/self/cgroup"]).ok();
    assert!(own_lines(&inside).all(|l| l.ends_with(":/")), "{inside}");
}

/// The lines of /proc/PID/cgroup that say where the controllers are: on a host with both versions, not that of v2.
fn own_lines(text: &str) -> impl Iterator<Item = &str> {
    let both = text.lines().count() > 1;
    text.lines().filter(move |l| !both || !l.starts_with("0::"))
}

#[test]
fn root_exec_returns_the_exit_code() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    assert_eq!(b.exec(&["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(b.exec(&["sh", "-c", "kill -9 $$"]).code, 137);
    let missing = b.exec(&["no-such-program"]).fails_with("executable file not found in $PATH");
    assert_eq!(missing.code, 255);
    b.exec(&["/no/such"]).fails_with("stat /no/such: no such file or directory");
    b.exec(&["/etc"]).fails_with("exec: \"/etc\"");
    b.exec(&[]).fails_with("args");
}

#[test]
fn root_exec_takes_user_environment_and_directory() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let out: String = {
        let args = ["exec", "--user", "12:34", "-g", "56", "--env", "A=b", "--cwd", "/tmp", &b.id];
        let script = ["sh", "-c", "id -u; id -g; id -G; echo $A; pwd"];
        b.call(&[&args[..], &script[..]].concat()).ok()
    };
    assert_eq!(out, "12\n34\n34 56\nb\n/tmp\n");
    b.call(&["exec", "--user", "4294967296", &b.id, "true"]).fails_with("uid");
    b.call(&["exec", "--user", "root", &b.id, "true"]).fails_with("number");
}

#[test]
fn root_exec_takes_a_process_file_and_detaches() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let mut process = b.config["process"].clone();
    process["args"] = json!(["sh", "-c", "echo $X > /tmp/x; sleep 1000"]);
    process["env"] = json!(["PATH=/bin", "X=y"]);
    let file = b.path().join("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    let pid_file = b.path().join("exec.pid");
    let args = [
        "exec",
        "--detach",
        "--process",
        &file.to_string_lossy(),
        "--pid-file",
        &pid_file.to_string_lossy(),
        &b.id,
    ];
    b.call(&args).ok();
    crate::bundle::wait_until("the file", || {
        std::fs::read_to_string(b.rootfs().join("tmp/x")).is_ok_and(|t| t == "y\n")
    });
    let pid: i32 = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    let pids: Vec<i32> = serde_json::from_str(&b.call(&["ps", "--format", "json", &b.id]).ok()).unwrap();
    assert!(pids.contains(&pid), "{pid} is not in {pids:?}");
}

#[test]
fn root_exec_into_a_created_container_works() {
    let b = Bundle::new("true");
    b.write_config();
    b.call(&["create", &b.id]).ok();
    assert_eq!(b.exec(&["echo", "x"]).ok(), "x\n");
}

#[test]
fn root_exec_into_a_stopped_container_is_refused() {
    let b = Bundle::new("true");
    b.run_detached();
    b.wait_for_status("stopped");
    b.exec(&["true"]).fails_with("cannot exec in a stopped container");
}

#[test]
fn root_exec_has_no_more_privileges_than_the_container() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let caps = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/1/status; echo; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    let out = b.exec(&["sh", "-c", caps]).ok();
    let (init, exec) = out.split_once("\n\n").unwrap();
    assert_eq!(init.trim(), exec.trim());
    let more =
        b.call(&["exec", "--cap", "CAP_SYS_PTRACE", &b.id, "grep", "CapEff", "/proc/self/status"]).ok();
    let bits = u64::from_str_radix(more.split_whitespace().last().unwrap(), 16).unwrap();
    assert_eq!(bits & (1 << 19), 1 << 19);
}

#[test]
fn root_exec_runs_in_a_cgroup_below_the_containers() {
    let b = Bundle::new("sleep 1000");
    b.run_detached();
    let below = |b: &Bundle| b.cgroups().iter().map(|d| d.join("below")).collect::<Vec<_>>();
    b.call(&["exec", "--cgroup", "below", &b.id, "true"]).fails_with("adding pid to");
    b.call(&["exec", "--cgroup", "../..", &b.id, "true"]).fails_with("bad sub cgroup path");
    for dir in below(&b) {
        std::fs::create_dir(&dir).unwrap();
        // a new v1 cpuset is empty, and takes nobody until it has what its parent has
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let file = dir.join(file);
            if file.exists() {
                let parent = dir.with_file_name(file.file_name().unwrap());
                std::fs::write(&file, std::fs::read_to_string(parent).unwrap()).unwrap();
            }
        }
    }
    let out = b.call(&["exec", "--cgroup", "below", &b.id, "cat", "/proc/self/cgroup"]).ok();
    assert!(own_lines(&out).all(|l| l.ends_with(":/below")), "{out}");
    b.call(&["delete", "--force", &b.id]).ok();
    b.assert_nothing_left();
}
