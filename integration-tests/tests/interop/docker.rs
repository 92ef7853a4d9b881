//! dockerd 20.10 with `--add-runtime runw=…`.

use std::process::{Command, Output};

use super::{Ground, SOON, both, is_frozen, runw};
use wharf_integration_tests::eventually;

struct Docker(Ground);

impl Docker {
    fn start() -> Docker {
        let mut ground = Ground::new();
        let containerd = ground.containerd();
        // in containerd's mount namespace, since its shims mount what dockerd prepares
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{containerd}/ns/mnt")).arg("dockerd");
        command.args([
            "--containerd",
            &ground.text("c.sock"),
            "--host",
            &format!("unix://{}", ground.text("d.sock")),
        ]);
        command.args(["--data-root", &ground.text("docker"), "--exec-root", &ground.text("exec")]);
        command.args(["--pidfile", &ground.text("docker.pid"), "--config-file", &ground.text("none.json")]);
        command.args(["--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]);
        command.args([
            "--userland-proxy=false",
            "--storage-driver",
            "vfs",
            "--exec-opt",
            "native.cgroupdriver=cgroupfs",
        ]);
        command.args([
            "--containerd-namespace",
            &ground.name,
            "--containerd-plugins-namespace",
            &format!("{}-p", ground.name),
        ]);
        command.args(["--cgroup-parent", &format!("/{}", ground.name)]);
        command.args(["--add-runtime", &format!("runw={}", runw()), "--default-runtime", "runw"]);
        std::fs::write(ground.path("none.json"), "{}").expect("a config file");
        ground.spawn("dockerd", &mut command);
        let docker = Docker(ground);
        eventually("dockerd serves", SOON, || {
            let version = docker.docker(&["version"]).output().expect("docker is installed");
            version.status.success().then_some(())
        });
        docker.ok(&["load", "-i", &docker.0.image()]);
        docker
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", self.0.path("client"));
        command.args(["-H", &format!("unix://{}", self.0.text("d.sock"))]).args(arguments);
        command.stdin(std::process::Stdio::null());
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.0.ok(&mut self.docker(arguments))
    }

    fn run(&self, flags: &[&str], process: &[&str]) -> Output {
        let mut arguments = vec!["run", "--network", "none"];
        arguments.extend(flags);
        arguments.push("busybox");
        arguments.extend(process);
        self.docker(&arguments).output().expect("docker is installed")
    }

    fn background(&self, flags: &[&str], script: &str) -> String {
        let mut all = vec!["-d"];
        all.extend(flags);
        let output = self.run(&all, &["sh", "-c", script]);
        assert!(output.status.success(), "{}{}", both(&output), self.0.logs());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn inspect(&self, id: &str, format: &str) -> String {
        self.ok(&["inspect", "--format", format, id]).trim().to_owned()
    }
}

const FOREVER: &str = "trap 'exit 5' TERM; while :; do sleep 0.05; done";

#[test]
fn root_dockerd_runs_containers_with_runw() {
    let d = Docker::start();
    let hello = d.run(&["--rm"], &["echo", "hello"]);
    assert_eq!(both(&hello), "hello\n", "{}", d.0.logs());
    for code in [0, 3, 127] {
        let exit = format!("exit {code}");
        let output = d.run(&["--rm"], &["sh", "-c", &exit]);
        assert_eq!(output.status.code(), Some(code), "{}", both(&output));
    }
    assert_eq!(d.run(&["--rm"], &["/no/such/program"]).status.code(), Some(127));
    assert_eq!(d.run(&["--rm"], &["/etc"]).status.code(), Some(126));
    let status = d.run(
        &["--rm", "--user", "1000:1001"],
        &["sh", "-c", "id -u; id -g; grep ^Seccomp: /proc/self/status"],
    );
    assert_eq!(both(&status), "1000\n1001\nSeccomp:\t2\n");
    let caps = d.run(&["--rm", "--cap-drop", "ALL"], &["grep", "CapEff", "/proc/self/status"]);
    assert_eq!(both(&caps), "CapEff:\t0000000000000000\n");
    let tty = d.run(&["--rm", "-t"], &["tty"]);
    assert_eq!(both(&tty).trim(), "/dev/pts/0", "{}", d.0.logs());
    assert_eq!(d.0.left_cgroups(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn root_dockerd_execs_kills_and_logs_with_runw() {
    let d = Docker::start();
    let id = d.background(&[], &format!("echo out; echo err >&2; {FOREVER}"));
    eventually("both lines are logged", SOON, || {
        let logs = both(&d.docker(&["logs", &id]).output().expect("docker"));
        (logs == "out\nerr\n").then_some(())
    });
    assert_eq!(d.ok(&["exec", &id, "cat", "/proc/1/comm"]), "sh\n");
    assert_eq!(d.ok(&["exec", "-u", "1000", &id, "id", "-u"]), "1000\n");
    let failed = d.docker(&["exec", &id, "sh", "-c", "exit 9"]).output().expect("docker");
    assert_eq!(failed.status.code(), Some(9), "{}", both(&failed));
    assert!(d.ok(&["top", &id]).contains("sleep"));
    d.ok(&["kill", "--signal", "TERM", &id]);
    assert_eq!(d.ok(&["wait", &id]).trim(), "5");
    assert_eq!(d.inspect(&id, "{{.State.ExitCode}} {{.HostConfig.Runtime}}"), "5 runw");
    d.ok(&["start", &id]);
    d.ok(&["rm", "-f", &id]);
    assert_eq!(d.0.left_cgroups(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn root_dockerd_pauses_limits_and_measures_with_runw() {
    let d = Docker::start();
    let id = d.background(&["--memory", "32m", "--pids-limit", "64", "--cpus", "0.5"], FOREVER);
    let pid: u32 = d.inspect(&id, "{{.State.Pid}}").parse().expect("a pid");
    d.ok(&["pause", &id]);
    assert!(is_frozen(pid));
    assert_eq!(d.inspect(&id, "{{.State.Status}}"), "paused");
    d.ok(&["unpause", &id]);
    assert!(!is_frozen(pid));
    let stats = d.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", &id]);
    assert!(stats.contains("/ 32MiB"), "{stats}");
    d.ok(&["update", "--memory", "64m", "--memory-swap", "64m", &id]);
    let stats = d.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", &id]);
    assert!(stats.contains("/ 64MiB"), "{stats}");
    d.ok(&["rm", "-f", &id]);
    assert_eq!(d.0.left_cgroups(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn root_dockerd_sees_an_out_of_memory_kill_under_runw() {
    let d = Docker::start();
    // the first process outlives the kill: an OOM event that came together with the exit was
    // once not shown by dockerd; which side missed it is not known
    let script = format!("sh -c 'a=x; while :; do a=$a$a; done'; echo status $?; {FOREVER}");
    let id = d.background(&["--memory", "16m", "--memory-swap", "16m"], &script);
    eventually("the shell that eats memory is killed", SOON, || {
        (d.ok(&["logs", &id]) == "status 137\n").then_some(())
    });
    eventually("dockerd is told", SOON, || {
        let events = d.ok(&["events", "--since", "10m", "--until", "0s", "--filter", "event=oom"]);
        events.contains(&id).then_some(())
    });
    d.ok(&["kill", "--signal", "TERM", &id]);
    assert_eq!(d.ok(&["wait", &id]).trim(), "5");
    assert_eq!(d.inspect(&id, "{{.State.OOMKilled}}"), "true");
    d.ok(&["rm", &id]);
}
