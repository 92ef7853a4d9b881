//! `containerd.runc.v1.Options` and the flags `-v` and `-info`, as containerd's own shim heeds them.

#[allow(dead_code)] // each test uses some of it
mod stack;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::Any;
use stack::{Bundle, Shim};
use wharf_containerd::containerd::runc::v1::Options;
use wharf_containerd::containerd::task::v3::{
    CreateTaskRequest, CreateTaskResponse, StartRequest, StartResponse, WaitRequest, WaitResponse,
};
use wharf_containerd::containerd::types::RuntimeInfo;
use wharf_containerd::{to_any, type_url};

const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-wharf-v2");

fn options_of(bundle: &Bundle) -> Options {
    Options::decode(&bundle.options().value[..]).unwrap()
}

fn any(options: &Options) -> Any {
    to_any(type_url::RUNC_OPTIONS, options)
}

/// Runs the bundle's container to its end with these options; what it wrote to its two outputs goes to `output`.
fn run(bundle: &Bundle, shim: &mut Shim, options: &Options, output: &Path) -> (u32, u32) {
    let request = CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        stdout: format!("file://{}", output.display()),
        stderr: format!("file://{}", output.display()),
        options: Some(any(options)),
        ..CreateTaskRequest::default()
    };
    let created: CreateTaskResponse = shim.call("Create", &request).unwrap();
    let owner = File::open(format!("/proc/{}/fd/1", created.pid)).unwrap().metadata().unwrap();
    let _: StartResponse =
        shim.call("Start", &StartRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
    let ended: WaitResponse =
        shim.call("Wait", &WaitRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
    assert_eq!(ended.exit_status, 0, "{}", fs::read_to_string(output).unwrap_or_default());
    shim.delete(&bundle.id, "");
    (owner.uid(), owner.gid())
}

#[test]
fn root_pipes_belong_to_the_owner_that_the_options_name() {
    let script = "cat /proc/self/fdinfo/1 >/dev/null && echo re-opened >/proc/self/fd/1";
    let bundle = Bundle::new("owner", &["sh", "-c", script]);
    bundle.change_spec(|spec| spec["process"]["user"] = serde_json::json!({"uid": 4321, "gid": 1234}));
    let output = bundle.dir().join("out");
    let mut shim = bundle.start();
    let options = Options { io_uid: 4321, io_gid: 1234, ..options_of(&bundle) };
    assert_eq!(run(&bundle, &mut shim, &options, &output), (4321, 1234));
    // what a user that is not root can do with pipes of its own only
    assert_eq!(fs::read_to_string(&output).unwrap(), "re-opened\n");
    shim.shutdown();
}

#[test]
fn root_the_runtime_gets_the_flags_that_the_options_ask_for() {
    let bundle = Bundle::new("flags", &["echo", "done"]);
    let (log, wrapper) = (bundle.dir().join("calls"), bundle.dir().join("wrapper"));
    let script = format!("#!/bin/sh\necho \"$*\" >> {}\nexec {} \"$@\"\n", log.display(), stack::runtime());
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let root = bundle.dir().join("state-of-runtime");
    let options = Options {
        binary_name: wrapper.to_str().unwrap().to_owned(),
        root: root.to_str().unwrap().to_owned(),
        no_pivot_root: true,
        no_new_keyring: true,
        ..Options::default()
    };
    let mut shim = bundle.start();
    run(&bundle, &mut shim, &options, &bundle.dir().join("out"));
    shim.shutdown();
    let calls = fs::read_to_string(&log).unwrap();
    let root = format!("--root {}/test ", root.display());
    for line in calls.lines() {
        assert!(line.contains(&root), "{line}");
        assert!(line.contains("--log-format json"), "{line}");
    }
    let create = calls.lines().find(|line| line.contains(" create ")).expect("a create");
    assert!(create.contains(" --no-pivot ") && create.contains(" --no-new-keyring "), "{create}");
    assert!(create.contains(&format!(" --bundle {} ", bundle.path().display())), "{create}");
    assert!(!create.contains("--systemd-cgroup"), "{create}");
    let start = calls.lines().find(|line| line.contains(" start ")).expect("a start");
    assert!(!start.contains("--no-pivot") && !start.contains("--no-new-keyring"), "{start}");
}

#[test]
fn root_options_stay_with_the_bundle_for_the_shim_that_cleans_up() {
    let bundle = Bundle::new("kept", &["sleep", "1000"]);
    let mut shim = bundle.start();
    let root = bundle.dir().join("elsewhere");
    let options = Options { root: root.to_str().unwrap().to_owned(), ..options_of(&bundle) };
    let request = CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        options: Some(any(&options)),
        ..CreateTaskRequest::default()
    };
    let _: CreateTaskResponse = shim.call("Create", &request).unwrap();
    assert!(root.join("test").join(&bundle.id).is_dir(), "the runtime's state is where the options say");
    shim.kill();
    let deleted = bundle.delete();
    assert_eq!(deleted.exit_status, 137);
    assert!(!root.join("test").join(&bundle.id).exists(), "the container is left");
}

/// A cgroup that is removed at the end: version 1's pids controller, or version 2.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Group {
        let cgroups = Path::new("/sys/fs/cgroup");
        let pids = cgroups.join("pids");
        let path = if pids.is_dir() { pids.join(name) } else { cgroups.join(name) };
        fs::create_dir(&path).unwrap();
        Group(path)
    }

    fn holds(&self, pid: &str) -> bool {
        fs::read_to_string(self.0.join("cgroup.procs")).unwrap().lines().any(|line| line == pid)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // the kernel lets go of the last process a moment after it has ended
        let deadline = std::time::Instant::now() + stack::TIMEOUT;
        while fs::remove_dir(&self.0).is_err() && self.0.exists() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn root_the_shim_joins_the_cgroup_that_the_options_name() {
    let bundle = Bundle::new("joined", &["sleep", "1000"]);
    let name = format!("wharf-shim-own-{}", bundle.id);
    let group = Group::new(&name);
    let options = Options { shim_cgroup: format!("/{name}"), ..options_of(&bundle) };
    let shim = bundle.start_with(&options);
    let pid = fs::read_to_string(bundle.path().join("shim.pid")).unwrap();
    assert!(group.holds(&pid), "the shim is not in {}", group.0.display());
    shim.shutdown();
}

#[test]
fn root_a_cgroup_that_is_not_there_fails_the_start_and_leaves_nothing() {
    let bundle = Bundle::new("nocgroup", &["sleep", "1000"]);
    let options = Options { shim_cgroup: "/wharf-shim-no-such-group".into(), ..options_of(&bundle) };
    let text = bundle.start_fails(Some(&options), &[]);
    assert!(text.contains("shim cgroup /wharf-shim-no-such-group: it does not exist"), "{text}");
    bundle.has_no_server();
}

#[test]
fn root_core_scheduling_is_asked_for_by_the_environment_and_refused_where_the_kernel_has_none() {
    let bundle = Bundle::new("cores", &["sleep", "1000"]);
    // the kernel's own answer: the variable must not be passed over where it cannot be heeded
    if wharf_sys::core_sched::is_available() {
        let shim = bundle.start_in(&[("SCHED_CORE", "1")]);
        let pid = fs::read_to_string(bundle.path().join("shim.pid")).unwrap();
        let cookie = wharf_sys::core_sched::cookie(pid.trim().parse().unwrap()).unwrap();
        assert_ne!(cookie, 0, "the shim shares its core with everybody");
        shim.shutdown();
    } else {
        let text = bundle.start_fails(None, &[("SCHED_CORE", "1")]);
        assert!(text.contains("enable sched core support"), "{text}");
        bundle.has_no_server();
    }
    // empty is not asked for
    bundle.start_in(&[("SCHED_CORE", "")]).shutdown();
}

#[test]
fn version_is_told_in_containerds_lines() {
    for flag in ["-v", "--version"] {
        let output = std::process::Command::new(SHIM).arg(flag).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let version = format!("  Version:  {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(lines[..2], ["containerd-shim-wharf-v2:", version.as_str()]);
        assert!(lines[2].starts_with("  Revision:"), "{text}");
        assert!(text.ends_with("\n\n"), "{text:?}");
    }
}

fn info(stdin: &[u8]) -> std::process::Output {
    use std::io::Write;
    let mut command = std::process::Command::new(SHIM);
    command.arg("-info").stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn info_has_the_options_and_the_runtimes_features() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = dir.path().join("runtime");
    let script = "#!/bin/sh\n[ \"$*\" = features ] && echo '{\"ociVersionMin\":\"1.0.0\"}'\n";
    fs::write(&runtime, script).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    let options = any(&Options { binary_name: runtime.to_str().unwrap().into(), ..Options::default() });
    let output = info(&options.encode_to_vec());
    assert!(output.status.success(), "{output:?}");
    let info = RuntimeInfo::decode(&output.stdout[..]).unwrap();
    assert_eq!(info.name, "io.containerd.wharf.v2");
    assert_eq!(info.version.unwrap().version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.options.unwrap(), options);
    let features = info.features.unwrap();
    assert_eq!(features.type_url, "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
    assert_eq!(features.value.trim_ascii(), b"{\"ociVersionMin\":\"1.0.0\"}");
    assert!(info.annotations.is_empty(), "no mount type is this shim's own");
}

#[test]
fn info_of_a_runtime_without_features_has_none_and_of_no_runtime_is_an_error() {
    let with = |binary: &str| {
        info(&any(&Options { binary_name: binary.into(), ..Options::default() }).encode_to_vec())
    };
    let output = with("/bin/false");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(RuntimeInfo::decode(&output.stdout[..]).unwrap().features, None);
    let output = with("/no/such/runtime");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(text.contains("failed to look up the path of \"/no/such/runtime\""), "{text}");
    let other = Any { type_url: "runtimeoptions.v1.Options".into(), value: vec![10, 0] };
    let output = info(&other.encode_to_vec());
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[test]
fn root_what_shares_its_processes_is_over_when_its_exit_is_told() {
    // the init goes away from its child, which would live on in the namespace that both share with the machine
    let bundle = Bundle::new("shared", &["sh", "-c", "sleep 1000 & echo $! >/tmp/child; kill -9 $$"]);
    bundle.change_spec(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    // slow to kill: an exit that does not wait for it is told before
    let (wrapper, killed) = (bundle.dir().join("wrapper"), bundle.dir().join("killed"));
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" kill \"*) sleep 1; {0} \"$@\"; touch {1};; *) exec {0} \"$@\";; esac\n",
        stack::runtime(),
        killed.display()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut shim = bundle.start();
    let request = CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        options: Some(bundle.options_of(wrapper.to_str().unwrap())),
        ..CreateTaskRequest::default()
    };
    let _: CreateTaskResponse = shim.call("Create", &request).unwrap();
    let _: StartResponse =
        shim.call("Start", &StartRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
    let ended: WaitResponse =
        shim.call("Wait", &WaitRequest { id: bundle.id.clone(), ..Default::default() }).unwrap();
    assert_eq!(ended.exit_status, 137);
    assert!(killed.exists(), "the exit was told before the rest was killed");
    let child = fs::read_to_string(bundle.path().join("rootfs/tmp/child")).unwrap();
    stack::until_gone(child.trim().parse().unwrap());
    shim.delete(&bundle.id, "");
    shim.shutdown();
}
