//! podman with `--runtime <runw>`.

use std::process::{Command, Output, Stdio};

use super::{Ground, SOON, both, is_frozen, runw};
use wharf_integration_tests::eventually;

struct Podman(Ground);

impl Podman {
    fn new() -> Podman {
        let podman = Podman(Ground::new());
        podman.ok(&["load", "-i", &podman.0.image()]);
        podman
    }

    fn podman(&self, arguments: &[&str]) -> Command {
        let g = &self.0;
        let mut command = Command::new("podman");
        command.args(["--root", &g.text("root"), "--runroot", &g.text("run"), "--tmpdir", &g.text("tmp")]);
        command.args(["--runtime", &runw(), "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"]);
        command.args(["--events-backend", "file"]).args(arguments).stdin(Stdio::null());
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.0.ok(&mut self.podman(arguments))
    }

    fn run(&self, flags: &[&str], process: &[&str]) -> Output {
        let parent = format!("/{}", self.0.name);
        let mut arguments = vec!["run", "--network", "none", "--cgroup-parent", &parent];
        // podman would raise these two, which needs a capability that a test machine may not have
        arguments.extend(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        arguments.extend(flags);
        arguments.push("busybox");
        arguments.extend(process);
        self.podman(&arguments).output().expect("podman is installed")
    }
}

#[test]
fn root_podman_runs_containers_with_runw() {
    let p = Podman::new();
    let hello = p.run(&["--rm"], &["echo", "hello"]);
    assert_eq!(both(&hello), "hello\n");
    for code in [0, 3] {
        let exit = format!("exit {code}");
        let output = p.run(&["--rm"], &["sh", "-c", &exit]);
        assert_eq!(output.status.code(), Some(code), "{}", both(&output));
    }
    assert_eq!(p.run(&["--rm"], &["/no/such/program"]).status.code(), Some(127));
    assert_eq!(p.run(&["--rm"], &["/etc"]).status.code(), Some(126));
    assert_eq!(p.ok(&["ps", "-aq"]), "");
}

#[test]
fn root_podman_execs_pauses_and_removes_with_runw() {
    let p = Podman::new();
    let output = p.run(&["-d", "--name", "bg"], &["sh", "-c", "echo out; while :; do sleep 0.05; done"]);
    assert!(output.status.success(), "{}", both(&output));
    eventually("the line is logged", SOON, || (p.ok(&["logs", "bg"]) == "out\n").then_some(()));
    assert_eq!(p.ok(&["exec", "bg", "cat", "/proc/1/comm"]), "sh\n");
    let failed = p.podman(&["exec", "bg", "sh", "-c", "exit 9"]).output().expect("podman");
    assert_eq!(failed.status.code(), Some(9), "{}", both(&failed));
    let pid: u32 = p.ok(&["inspect", "--format", "{{.State.Pid}}", "bg"]).trim().parse().expect("a pid");
    p.ok(&["pause", "bg"]);
    assert!(is_frozen(pid));
    p.ok(&["unpause", "bg"]);
    assert!(!is_frozen(pid));
    p.ok(&["rm", "-f", "-t", "0", "bg"]);
    assert_eq!(p.ok(&["ps", "-aq"]), "");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

/// A uid that nobody has, and ids that it may map beside its own.
const USER: u32 = 54_322;
const MORE: u32 = 800_000;

/// podman as an ordinary user, who is known in a mount namespace of this test's own.
struct Rootless(Ground);

impl Rootless {
    fn new() -> Rootless {
        let g = Ground::new();
        let image = g.image();
        for name in ["home", "run"] {
            std::fs::create_dir(g.path(name)).expect("a folder");
        }
        std::fs::copy(runw(), g.path("runw")).expect("runw");
        let add = |name: &str, line: String| {
            let text = std::fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
            std::fs::write(g.path(name), format!("{text}{line}\n")).expect("a file");
        };
        add("passwd", format!("wharf-tester:x:{USER}:{USER}::{}:/bin/sh", g.text("home")));
        add("group", format!("wharf-tester:x:{USER}:"));
        std::fs::write(g.path("subid"), format!("wharf-tester:{MORE}:65536\n")).expect("a file");
        for path in [g.dir.path().to_owned(), g.path("home"), g.path("run"), image.into()] {
            std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("chown");
        }
        let podman = Rootless(g);
        podman.ok(&["load", "-i", "busybox.tar"]);
        podman
    }

    fn podman(&self, arguments: &[&str]) -> Command {
        let g = &self.0;
        let script = "mount --bind passwd /etc/passwd; mount --bind group /etc/group; \
            mount --bind subid /etc/subuid; mount --bind subid /etc/subgid; \
            exec setpriv --reuid \"$0\" --regid \"$0\" --clear-groups podman \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script, &USER.to_string()]);
        command.args(["--runtime", &g.text("runw"), "--cgroup-manager", "cgroupfs"]);
        command.args(["--storage-driver", "vfs", "--events-backend", "file"]).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("USER", "wharf-tester");
        command.env("HOME", g.text("home")).env("XDG_RUNTIME_DIR", g.text("run"));
        command.current_dir(g.dir.path()).stdin(Stdio::null());
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.0.ok(&mut self.podman(arguments))
    }

    fn run(&self, flags: &[&str], process: &[&str]) -> Output {
        let mut arguments = vec!["run", "--network", "none"];
        arguments.extend(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        arguments.extend(flags);
        arguments.push("busybox");
        arguments.extend(process);
        self.podman(&arguments).output().expect("podman is installed")
    }
}

#[test]
fn root_podman_of_an_ordinary_user_runs_execs_and_removes_with_runw() {
    let p = Rootless::new();
    let output = p.run(&["--rm"], &["sh", "-c", "id -u; cat /proc/self/uid_map; exit 3"]);
    let words: Vec<String> = both(&output).split_whitespace().map(str::to_owned).collect();
    assert_eq!(output.status.code(), Some(3), "{}", both(&output));
    let (user, more) = (USER.to_string(), MORE.to_string());
    assert_eq!(words, ["0", "0", &user, "1", "1", &more, "65536"]);
    let output = p.run(&["-d", "--name", "bg"], &["sh", "-c", "echo out; while :; do sleep 0.05; done"]);
    assert!(output.status.success(), "{}", both(&output));
    eventually("the line is logged", SOON, || (p.ok(&["logs", "bg"]) == "out\n").then_some(()));
    assert_eq!(p.ok(&["exec", "bg", "cat", "/proc/1/comm"]), "sh\n");
    let other = p.ok(&["exec", "--user", "7:8", "bg", "sh", "-c", "id -u; id -g"]);
    assert_eq!(other, "7\n8\n");
    let pid: u32 = p.ok(&["inspect", "--format", "{{.State.Pid}}", "bg"]).trim().parse().expect("a pid");
    p.ok(&["rm", "-f", "-t", "0", "bg"]);
    assert_eq!(p.ok(&["ps", "-aq"]), "");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}
