//! A bundle, and the shim started on it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use prost_types::Any;
use wharf_containerd::containerd::runc::v1::Options;
use wharf_containerd::containerd::runtime::bootstrap::v1::{BootstrapParams, BootstrapResult, Extension};
use wharf_containerd::containerd::task::v3::{DeleteRequest, DeleteResponse, ShutdownRequest};
use wharf_containerd::{to_any, type_url};
use wharf_shim::ttrpc::{CallError, Client};

/// The bound on anything that should take a moment.
pub const TIMEOUT: Duration = Duration::from_secs(60);
const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-wharf-v2");
const SERVICE: &str = "containerd.task.v3.Task";

/// The runtime under test: `runw` in WHARF_BIN_DIR or beside the shim, else any `runc`.
pub fn runtime() -> String {
    let dirs =
        [std::env::var_os("WHARF_BIN_DIR").map(PathBuf::from), Path::new(SHIM).parent().map(Into::into)];
    let runw = dirs.into_iter().flatten().map(|dir| dir.join("runw")).find(|runw| runw.is_file());
    runw.map_or("runc".to_owned(), |runw| runw.to_str().unwrap().to_owned())
}

pub struct Bundle {
    pub id: String,
    dir: tempfile::TempDir,
    /// The folder of shim sockets.
    sockets: PathBuf,
}

impl Bundle {
    /// A bundle whose init runs busybox with these arguments.
    pub fn new(name: &str, args: &[&str]) -> Bundle {
        Bundle::make(name, process(args))
    }

    /// A bundle of a container that says it belongs to the other's group.
    pub fn grouped(name: &str, args: &[&str], of: &Bundle) -> Bundle {
        let mut bundle = Bundle::new(name, args);
        bundle.sockets = of.sockets.clone();
        let group = serde_json::json!({"io.kubernetes.cri.sandbox-id": of.id});
        bundle.change_spec(|spec| spec["annotations"] = group);
        bundle
    }

    /// The same, on a terminal.
    pub fn with_terminal(name: &str, args: &[&str]) -> Bundle {
        let mut process = process(args);
        process["terminal"] = true.into();
        Bundle::make(name, process)
    }

    fn make(name: &str, process: serde_json::Value) -> Bundle {
        assert!(rustix::process::geteuid().is_root(), "this test runs containers: run it as root");
        // pids repeat in isolated runs side by side; cgroups are the machine's
        let dir = tempfile::Builder::new().prefix("ws").rand_bytes(6).tempdir().unwrap();
        let id = format!("{name}-{}", dir.path().file_name().unwrap().to_string_lossy());
        let bundle = Bundle { sockets: dir.path().join("s"), dir, id };
        let bin = bundle.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        for dir in ["proc", "dev", "sys", "tmp"] {
            std::fs::create_dir(bundle.path().join("rootfs").join(dir)).unwrap();
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|b| Path::new(b).is_file());
        std::fs::copy(busybox.expect("busybox-static is installed"), bin.join("busybox")).unwrap();
        for applet in ["sh", "sleep", "cat", "stty", "echo"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        let spec = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            ],
            "linux": {
                "cgroupsPath": format!("/wharf-shim-test-{}", bundle.id),
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
            },
        });
        std::fs::write(bundle.path().join("config.json"), spec.to_string()).unwrap();
        bundle
    }

    /// The test's own folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("bundles").join(&self.id)
    }

    pub fn options(&self) -> Any {
        self.options_of(&runtime())
    }

    /// Options with another runtime.
    pub fn options_of(&self, runtime: &str) -> Any {
        let root = self.dir().join("runtime").to_str().unwrap().to_owned();
        let options = Options { binary_name: runtime.to_owned(), root, ..Options::default() };
        to_any(type_url::RUNC_OPTIONS, &options)
    }

    pub fn process(&self, args: &[&str]) -> Any {
        let value = process(args).to_string().into_bytes();
        Any { type_url: type_url::OCI_PROCESS.to_owned(), value }
    }

    fn command(&self, action: &str) -> Command {
        let mut command = Command::new(SHIM);
        command.args(["-namespace", "test", "-id", &self.id, "-address", "/none", action]);
        command.current_dir(self.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    /// Changes config.json.
    pub fn change_spec(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.path().join("config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut spec);
        std::fs::write(path, spec.to_string()).unwrap();
    }

    /// Starts the shim as a daemon does.
    pub fn start(&self) -> Shim {
        self.started(self.asked(self.command("start"), None))
    }

    /// The same, told runtime options.
    pub fn start_with(&self, options: &Options) -> Shim {
        self.started(self.asked(self.command("start"), Some(options)))
    }

    /// The same, in another environment.
    pub fn start_in(&self, environment: &[(&str, &str)]) -> Shim {
        let mut command = self.command("start");
        command.envs(environment.iter().copied());
        self.started(self.asked(command, None))
    }

    /// A `start` that has to fail: what it says.
    pub fn start_fails(&self, options: Option<&Options>, environment: &[(&str, &str)]) -> String {
        let mut command = self.command("start");
        command.envs(environment.iter().copied()).stderr(Stdio::piped());
        let output = self.asked(command, options).wait_with_output().unwrap();
        assert!(!output.status.success(), "it started");
        assert!(output.stdout.is_empty(), "it told an address");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Sees that a start that failed left no server and no socket.
    pub fn has_no_server(&self) {
        if let Ok(pid) = std::fs::read_to_string(self.path().join("shim.pid")) {
            until_gone(pid.parse().unwrap());
        }
        let sockets = std::fs::read_dir(&self.sockets).map(|entries| entries.count()).unwrap_or(0);
        assert_eq!(sockets, 0, "a socket is left");
    }

    fn started(&self, mut child: Child) -> Shim {
        let mut answer = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut answer).unwrap();
        assert!(child.wait().unwrap().success());
        let result = BootstrapResult::decode(&answer[..]).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        let address = std::fs::read_to_string(self.path().join("address")).unwrap();
        assert_eq!(address, result.address);
        self.connect()
    }

    /// `start`, told what a daemon tells that is gone before it could be answered.
    pub fn start_unheard(&self) -> Child {
        let (heard, answer) = std::io::pipe().unwrap();
        drop(heard);
        let mut command = self.command("start");
        command.stdout(answer);
        self.asked(command, None)
    }

    fn asked(&self, mut command: Command, options: Option<&Options>) -> Child {
        let value = options.map(|options| to_any(type_url::RUNC_OPTIONS, options));
        let params = BootstrapParams {
            instance_id: self.id.clone(),
            namespace: "test".into(),
            containerd_grpc_address: "/none".into(),
            socket_dir: Some(self.sockets.to_str().unwrap().to_owned()),
            extensions: value.map(|value| Extension { value: Some(value) }).into_iter().collect(),
            ..BootstrapParams::default()
        };
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&params.encode_to_vec()).unwrap();
        child
    }

    /// Another connection to the running shim.
    pub fn connect(&self) -> Shim {
        let address = std::fs::read_to_string(self.path().join("address")).unwrap();
        let socket = PathBuf::from(address.strip_prefix("unix://").unwrap());
        // one that joined another's shim has none of its own
        let pid = std::fs::read_to_string(self.path().join("shim.pid")).map_or(0, |pid| pid.parse().unwrap());
        Shim { client: Client::connect(&socket, Some(TIMEOUT)).unwrap(), socket, pid }
    }

    /// Runs `delete` as a daemon does that lost the shim.
    pub fn delete(&self) -> DeleteResponse {
        let output = self.command("delete").output().unwrap();
        assert!(output.status.success());
        DeleteResponse::decode(&output.stdout[..]).unwrap()
    }
}

fn process(args: &[&str]) -> serde_json::Value {
    serde_json::json!({
        "args": args, "cwd": "/", "env": ["PATH=/bin", "TERM=dumb"], "user": {"uid": 0, "gid": 0},
    })
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // a failed test leaves its container: the shim's own way to clean up
        if let Ok(pid) = std::fs::read_to_string(self.path().join("shim.pid"))
            && std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains(&self.id))
        {
            kill(pid.parse().unwrap());
            let _ = self.command("delete").output();
        }
    }
}

pub struct Shim {
    client: Client,
    socket: PathBuf,
    pid: i32,
}

impl Shim {
    pub fn call<Q: Message, A: Message + Default>(
        &mut self,
        method: &str,
        request: &Q,
    ) -> Result<A, CallError> {
        self.client.call(SERVICE, method, request)
    }

    pub fn call_sandbox<Q: Message, A: Message + Default>(
        &mut self,
        method: &str,
        request: &Q,
    ) -> Result<A, CallError> {
        self.client.call("containerd.runtime.sandbox.v1.Sandbox", method, request)
    }

    pub fn delete(&mut self, id: &str, exec_id: &str) -> DeleteResponse {
        self.call("Delete", &DeleteRequest { id: id.to_owned(), exec_id: exec_id.to_owned() }).unwrap()
    }

    /// Ends the shim as a daemon does, and sees that it went.
    pub fn shutdown(mut self) {
        let () = self.call("Shutdown", &ShutdownRequest::default()).unwrap();
        // the next shim of this name may be started at once
        assert!(!self.socket.exists(), "the socket is left when that is answered");
        self.ended();
    }

    /// Sees that the shim and its socket go.
    pub fn ended(&self) {
        until_gone(self.pid);
        assert!(!self.socket.exists(), "the socket is left");
    }

    pub fn kill(self) {
        kill(self.pid);
    }
}

fn kill(pid: i32) {
    let target = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(target, rustix::process::Signal::KILL);
    until_gone(pid);
}

/// Waits until a process is gone, or a zombie of whoever adopted it.
pub fn until_gone(pid: i32) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        if matches!(state, None | Some("Z" | "X")) {
            return;
        }
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}
