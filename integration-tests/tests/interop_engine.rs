//! Swaps at wharfd's two seams: the original containerd below it, and the original dockerd above our CLI.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use wharf_integration_tests::stack::text;
use wharf_integration_tests::{SOON, eventually, image, leaks, program};

/// A process of the test's, ended with it.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, log: &Path) -> Running {
        let log = File::create(log).expect("a log file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("dup")).stderr(log);
        Running(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let deadline = std::time::Instant::now() + SOON;
        while matches!(self.0.try_wait(), Ok(None)) {
            if std::time::Instant::now() > deadline {
                let _ = self.0.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn unmount_all(dir: &Path) {
    for mount in leaks::mounts_below(dir).iter().rev() {
        let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
    }
}

fn wharf(host: &str, args: &[&str]) -> Output {
    Command::new(program("wharf"))
        .args(["-H", host])
        .args(args)
        .env_remove("DOCKER_HOST")
        .stdin(Stdio::null())
        .output()
        .expect("wharf runs")
}

/// The verbs every Docker Engine API server must serve to our CLI.
fn drive(host: &str, archive: &Path, logs: impl Fn() -> String) {
    let ok = |args: &[&str]| {
        let out = wharf(host, args);
        assert!(out.status.success(), "{args:?}: {}\n{}", text(&out), logs());
        String::from_utf8(out.stdout).expect("utf-8").trim_end().to_owned()
    };
    let code = |args: &[&str]| wharf(host, args).status.code();
    ok(&["version"]);
    assert!(ok(&["load", "-i", archive.to_str().expect("utf-8")]).contains("busybox:latest"));
    assert_eq!(ok(&["run", "--rm", "--network", "none", "busybox", "echo", "hi"]), "hi");
    assert_eq!(code(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 3"]), Some(3));
    assert_eq!(code(&["run", "--rm", "--network", "none", "busybox", "no-such-program"]), Some(127));
    ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo started; exec sleep 1000",
    ]);
    eventually("its output is in the log", SOON, || (ok(&["logs", "box"]) == "started").then_some(()));
    assert_eq!(ok(&["exec", "box", "echo", "inside"]), "inside");
    assert_eq!(code(&["exec", "box", "sh", "-c", "exit 4"]), Some(4));
    assert_eq!(ok(&["ps", "--format", "{{.Names}} {{.State}}"]), "box running");
    ok(&["pause", "box"]);
    ok(&["unpause", "box"]);
    ok(&["kill", "box"]);
    assert_eq!(ok(&["wait", "box"]), "137");
    ok(&["rm", "box"]);
    ok(&["rmi", "busybox"]);
}

#[test]
fn root_interop_wharfd_on_the_original_containerd_and_its_shim() {
    let dir = tempfile::Builder::new().prefix("wh").tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    fs::write(path("containerd.toml"), "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")
        .expect("a file");
    let containerd = Running::start(
        Command::new("containerd")
            .arg("--config")
            .arg(path("containerd.toml"))
            .arg("--root")
            .arg(path("root"))
            .arg("--state")
            .arg(path("state"))
            .arg("--address")
            .arg(path("c.sock")),
        &path("containerd.log"),
    );
    eventually("containerd answers", SOON, || std::os::unix::net::UnixStream::connect(path("c.sock")).ok());
    let cgroup = format!("wharf-test-{}-engine", dir.path().file_name().expect("a name").to_string_lossy());
    let host = format!("unix://{}", path("w.sock").display());
    let wharfd = Running::start(
        Command::new(program("wharfd"))
            .args(["-H", &host])
            .arg("--data-root")
            .arg(path("engine"))
            .arg("--exec-root")
            .arg(path("es"))
            .arg("--containerd")
            .arg(path("c.sock"))
            .arg("--pidfile")
            .arg(path("w.pid"))
            .arg("--config-file")
            .arg(path("daemon.json"))
            .args(["--cgroup-parent", &format!("/{cgroup}")])
            .args(["--add-runtime", "runc=io.containerd.runc.v2", "--default-runtime", "runc"]),
        &path("wharfd.log"),
    );
    eventually("wharfd answers", SOON, || std::os::unix::net::UnixStream::connect(path("w.sock")).ok());
    let archive = image::busybox_archive(dir.path()).expect("an archive");
    drive(&host, &archive, || fs::read_to_string(path("wharfd.log")).unwrap_or_default());
    drop(wharfd);
    drop(containerd);
    unmount_all(dir.path());
    leaks::cgroups_named(&cgroup).iter().for_each(|c| drop(fs::remove_dir(c)));
}

#[test]
fn root_interop_our_cli_on_the_original_dockerd() {
    let dir = tempfile::Builder::new().prefix("wh").tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let cgroup = format!("wharf-test-{}-dockerd", dir.path().file_name().expect("a name").to_string_lossy());
    let host = format!("unix://{}", path("d.sock").display());
    let dockerd = Running::start(
        Command::new("dockerd")
            .args(["-H", &host])
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("d.pid"))
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .args(["--cgroup-parent", &format!("/{cgroup}")]),
        &path("dockerd.log"),
    );
    eventually("dockerd answers", SOON, || wharf(&host, &["version"]).status.success().then_some(()));
    let archive = image::busybox_archive(dir.path()).expect("an archive");
    drive(&host, &archive, || fs::read_to_string(path("dockerd.log")).unwrap_or_default());
    drop(dockerd);
    unmount_all(dir.path());
    leaks::cgroups_named(&cgroup).iter().for_each(|c| drop(fs::remove_dir(c)));
}
