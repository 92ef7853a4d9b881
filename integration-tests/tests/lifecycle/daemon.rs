//! A lifecycle daemon of its own, and containers in it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost_types::Any;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use wharf_containerd::containerd::services::containers::v1 as containers;
use wharf_containerd::containerd::services::tasks::v1 as tasks;
use wharf_containerd::containerd::services::tasks::v1::tasks_client::TasksClient;
use wharf_containerd::containerd::types::{Descriptor, Mount};
use wharf_containerd::containerd::v1::types::{Process, Status as State};
use wharf_failpoints::VARIABLE;
pub use wharf_integration_tests::SOON;
use wharf_integration_tests::leaks::{cgroups_named, mounts_below, processes_of};
use wharf_integration_tests::{eventually, program};

pub const NAMESPACE: &str = "test";
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
pub const RUNTIME: &str = "io.containerd.wharf.v2";

/// Lives until SIGTERM, and exits with 7 then.
pub const UNTIL_TERM: [&str; 3] = ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1000 & wait $!; done"];

/// A request in the namespace of the tests.
pub fn within<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", NAMESPACE.parse().expect("a name"));
    request
}

pub struct Daemon {
    dir: TempDir,
    cgroup: String,
    child: Option<Child>,
    channel: Option<Channel>,
    has_failpoints: bool,
    /// For the next start.
    armed: Option<String>,
}

impl Daemon {
    /// Starts a daemon, with busybox's programs for its containers in a folder.
    pub async fn start() -> Daemon {
        Daemon::on_new_folders(None).await
    }

    /// One built with failpoints, armed with a setting until it dies.
    pub async fn start_armed(setting: &str) -> Daemon {
        Daemon::on_new_folders(Some(setting.to_owned())).await
    }

    async fn on_new_folders(armed: Option<String>) -> Daemon {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test`");
        let dir = tempfile::Builder::new().prefix("wd").rand_bytes(6).tempdir().expect("a temporary folder");
        let cgroup = format!("wharf-test-{}", dir.path().file_name().expect("a name").to_string_lossy());
        let bin = dir.path().join("rootfs/bin");
        fs::create_dir_all(&bin).expect("a root file system");
        for folder in ["proc", "dev"] {
            fs::create_dir(dir.path().join("rootfs").join(folder)).expect("a folder");
        }
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox is installed");
        for applet in ["sh", "sleep", "true"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("a link");
        }
        let has_failpoints = armed.is_some();
        let mut daemon = Daemon { dir, cgroup, child: None, channel: None, has_failpoints, armed };
        daemon.start_again().await;
        daemon
    }

    /// Starts it on the same folders; how long it took until a list of tasks was answered.
    pub async fn start_again(&mut self) -> Duration {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log file");
        let begun = Instant::now();
        let mut ours = program("wharf-lifecycled");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", ours.parent().expect("a folder").display());
        if self.has_failpoints {
            ours = ours.parent().expect("a folder").with_file_name("failpoints").join("wharf-lifecycled");
            assert!(ours.exists(), "{} does not exist: run `make test`", ours.display());
        }
        let mut command = Command::new(ours);
        command.env("PATH", path).env_remove(VARIABLE);
        if let Some(setting) = self.armed.take() {
            command.env(VARIABLE, setting);
        }
        command.arg("--root").arg(self.path("lib")).arg("--state").arg(self.path("run"));
        command.arg("--address").arg(self.path("d.sock"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("the daemon starts"));
        let socket = self.path("d.sock");
        eventually("the daemon listens", SOON, || UnixStream::connect(&socket).is_ok().then_some(()));
        let address = Endpoint::from_shared(format!("unix://{}", socket.display())).expect("an address");
        self.channel = Some(address.connect().await.expect("it accepts"));
        self.list().await;
        begun.elapsed()
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a daemon");
        child.kill().expect("kill");
        child.wait().expect("reap");
        self.channel = None;
    }

    /// Waits for the daemon's end: the signal that it died of.
    pub fn await_death(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("a daemon");
        let ended = eventually("the daemon dies", SOON, || child.try_wait().expect("wait"));
        self.channel = None;
        ended.signal()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a daemon").id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone().expect("a daemon")
    }

    pub fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel())
    }

    fn containers(&self) -> containers::containers_client::ContainersClient<Channel> {
        containers::containers_client::ContainersClient::new(self.channel())
    }

    /// The spec of a container that runs `args`.
    pub fn spec(&self, id: &str, args: &[&str]) -> serde_json::Value {
        serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "cgroupsPath": format!("/{}/{id}", self.cgroup),
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
            },
        })
    }

    /// Makes a container's record, in a sandbox unless that is empty.
    pub async fn record(&self, id: &str, args: &[&str], sandbox: &str) {
        self.record_as(id, &self.spec(id, args), sandbox, None).await;
    }

    /// The same with a spec and runtime options of the test's own.
    pub async fn record_as(&self, id: &str, spec: &serde_json::Value, sandbox: &str, options: Option<Any>) {
        let container = containers::Container {
            id: id.into(),
            runtime: Some(containers::container::Runtime { name: RUNTIME.into(), options }),
            spec: Some(Any { type_url: SPEC.into(), value: spec.to_string().into_bytes() }),
            sandbox: sandbox.into(),
            ..containers::Container::default()
        };
        let request = containers::CreateContainerRequest { container: Some(container) };
        self.containers().create(within(request)).await.expect("a container");
    }

    /// Creates and starts the task of a recorded container; its pid.
    pub async fn launch(&self, id: &str) -> Result<u32, Status> {
        self.launch_from(id, None).await
    }

    /// The same from a checkpoint, if one is given.
    pub async fn launch_from(&self, id: &str, checkpoint: Option<Descriptor>) -> Result<u32, Status> {
        let rootfs = Mount {
            r#type: "bind".into(),
            source: self.path("rootfs").display().to_string(),
            target: String::new(),
            options: vec!["rbind".into(), "ro".into()],
        };
        let create = tasks::CreateTaskRequest {
            container_id: id.into(),
            rootfs: vec![rootfs],
            checkpoint,
            ..tasks::CreateTaskRequest::default()
        };
        self.tasks().create(within(create)).await?;
        let start = tasks::StartRequest { container_id: id.into(), exec_id: String::new() };
        Ok(self.tasks().start(within(start)).await?.into_inner().pid)
    }

    /// A running container; its pid.
    pub async fn run(&self, id: &str, args: &[&str]) -> u32 {
        self.record(id, args, "").await;
        self.launch(id).await.unwrap_or_else(|status| panic!("{id}: {status}\n{}", self.log()))
    }

    pub async fn list(&self) -> Vec<Process> {
        let listed = self.tasks().list(within(tasks::ListTasksRequest::default())).await;
        listed.unwrap_or_else(|status| panic!("{status}\n{}", self.log())).into_inner().tasks
    }

    /// The list once every task's state is known, but for those of stuck shims: after a restart one that has not
    /// answered at once is shown as unknown.
    pub async fn settled(&self, stuck: &[&str]) -> Vec<Process> {
        let begun = Instant::now();
        loop {
            let listed = self.list().await;
            let unknown: Vec<_> = listed.iter().filter(|task| state(task) == State::Unknown).collect();
            if unknown.iter().all(|task| stuck.contains(&task.id.as_str())) {
                return listed;
            }
            assert!(begun.elapsed() < SOON, "{unknown:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn wait(&self, id: &str) -> u32 {
        let request = tasks::WaitRequest { container_id: id.into(), exec_id: String::new() };
        self.tasks().wait(within(request)).await.expect("the end").into_inner().exit_status
    }

    pub async fn kill_task(&self, id: &str) -> Result<(), Status> {
        let request =
            tasks::KillRequest { container_id: id.into(), signal: 9, ..tasks::KillRequest::default() };
        self.tasks().kill(within(request)).await.map(drop)
    }

    /// Deletes a task that has ended, and its container; how it ended.
    pub async fn delete(&self, id: &str) -> Result<u32, Status> {
        let request = tasks::DeleteTaskRequest { container_id: id.into() };
        let exit = self.tasks().delete(within(request)).await?.into_inner().exit_status;
        self.containers().delete(within(containers::DeleteContainerRequest { id: id.into() })).await?;
        Ok(exit)
    }

    /// The pid of the shim that a container's bundle was started with.
    pub fn shim(&self, id: &str) -> Pid {
        let path = self.bundles().join(id).join("shim.pid");
        let pid = fs::read_to_string(path).expect("the shim's pid").parse().expect("a number");
        Pid::from_raw(pid).expect("a pid")
    }

    pub fn bundles(&self) -> PathBuf {
        self.path("run/io.containerd.runtime.v2.task").join(NAMESPACE)
    }

    /// Sees that no bundle, shim, mount or cgroup of a container is left.
    pub fn assert_nothing_left(&self) {
        let is_empty = |folder: &Path| fs::read_dir(folder).map_or(true, |mut d| d.next().is_none());
        eventually("nothing is left", SOON, || {
            let shims = processes_of(self.dir.path());
            let shims = shims.iter().any(|(_, line)| line.contains("containerd-shim-wharf"));
            let cgroups = cgroups_named(&self.cgroup).iter().any(|c| !c.ends_with(&self.cgroup));
            (is_empty(&self.bundles()) && is_empty(&self.path("run/s")) && !shims && !cgroups).then_some(())
        });
        assert!(mounts_below(self.dir.path()).is_empty());
    }
}

pub fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal).expect("it lives");
}

pub fn is_alive(pid: u32) -> bool {
    // a zombie has no executable
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// The listed task of that id.
pub fn task<'a>(tasks: &'a [Process], id: &str) -> &'a Process {
    tasks.iter().find(|task| task.id == id).unwrap_or_else(|| panic!("{id} is not listed"))
}

pub fn state(task: &Process) -> State {
    task.status()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        if self.child.is_some() {
            self.kill();
        }
        for (pid, _) in processes_of(self.dir.path()) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for cgroup in cgroups_named(&self.cgroup) {
            let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            for pid in procs.lines().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        for mount in mounts_below(self.dir.path()).iter().rev() {
            let _ = unmount(mount, UnmountFlags::DETACH);
        }
        let begun = Instant::now();
        while !cgroups_named(&self.cgroup).is_empty() && begun.elapsed() < SOON {
            cgroups_named(&self.cgroup).iter().for_each(|cgroup| drop(fs::remove_dir(cgroup)));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
