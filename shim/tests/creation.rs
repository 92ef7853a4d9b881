//! A container that is still being created, as a daemon finds it that died meanwhile and is back.

#[allow(dead_code)] // the other tests use the rest
mod stack;

use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use stack::{Bundle, TIMEOUT};
use wharf_containerd::containerd::task::v3::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, ShutdownRequest, StateRequest,
    StateResponse,
};
use wharf_containerd::containerd::v1::types::Status;
use wharf_kinds::Kind;
use wharf_shim::ttrpc::CallError;

/// A create that waits in a hook.
struct Slow {
    bundle: Bundle,
    go: PathBuf,
    create: JoinHandle<Result<CreateTaskResponse, CallError>>,
}

impl Slow {
    fn start(name: &str) -> Slow {
        let bundle = Bundle::new(name, &["sleep", "1000"]);
        let (reached, go) = (bundle.dir().join("reached"), bundle.dir().join("go"));
        let script =
            format!("touch {}; while [ ! -e {} ]; do sleep 0.01; done", reached.display(), go.display());
        let config = bundle.path().join("config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        spec["hooks"] =
            serde_json::json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
        std::fs::write(config, spec.to_string()).unwrap();
        let mut shim = bundle.start();
        let request = CreateTaskRequest {
            id: bundle.id.clone(),
            bundle: bundle.path().to_str().unwrap().to_owned(),
            options: Some(bundle.options()),
            ..CreateTaskRequest::default()
        };
        let create = thread::spawn(move || shim.call("Create", &request));
        let deadline = Instant::now() + TIMEOUT;
        while !reached.exists() {
            assert!(Instant::now() < deadline, "the hook is not reached");
            thread::sleep(Duration::from_millis(2));
        }
        Slow { bundle, go, create }
    }

    fn go_on(&self) {
        std::fs::write(&self.go, "").unwrap();
    }
}

fn cgroups_are_gone(id: &str) {
    let name = format!("wharf-shim-test-{id}");
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        assert!(!hierarchy.path().join(&name).exists(), "{} is left", hierarchy.path().display());
    }
}

#[test]
fn root_questions_about_a_container_wait_until_it_is_created() {
    let slow = Slow::start("asked");
    let id = slow.bundle.id.clone();
    let mut shim = slow.bundle.connect();
    let asked = thread::spawn({
        let id = id.clone();
        move || shim.call::<_, StateResponse>("State", &StateRequest { id, ..StateRequest::default() })
    });
    let mut shim = slow.bundle.connect();
    let deleted = thread::spawn({
        let id = id.clone();
        move || shim.call::<_, DeleteResponse>("Delete", &DeleteRequest { id, ..DeleteRequest::default() })
    });
    thread::sleep(Duration::from_millis(50)); // what must not come cannot be waited for
    assert!(!asked.is_finished() && !deleted.is_finished());
    slow.go_on();
    let pid = slow.create.join().unwrap().unwrap().pid;
    match asked.join().unwrap() {
        Ok(state) => assert_eq!((state.pid, state.status()), (pid, Status::Created)),
        // the deletion was quicker
        Err(e) => assert!(matches!(e, CallError::Answer { kind: Kind::NotFound, .. }), "{e}"),
    }
    assert_eq!(deleted.join().unwrap().unwrap().pid, pid);
    slow.bundle.connect().shutdown();
}

#[test]
fn root_a_shutdown_gives_up_what_is_only_being_created() {
    let slow = Slow::start("given-up");
    let mut shim = slow.bundle.connect();
    let () = shim.call("Shutdown", &ShutdownRequest::default()).unwrap();
    slow.go_on();
    shim.ended();
    cgroups_are_gone(&slow.bundle.id);
    assert!(slow.create.join().unwrap().is_err());
}

#[test]
fn root_delete_by_a_second_process_ends_a_creation_whose_shim_was_killed() {
    let slow = Slow::start("orphaned");
    slow.bundle.connect().kill();
    thread::scope(|scope| {
        let deleted = scope.spawn(|| slow.bundle.delete());
        slow.go_on();
        deleted.join().unwrap();
    });
    cgroups_are_gone(&slow.bundle.id);
    assert!(slow.create.join().unwrap().is_err());
}

#[test]
fn root_a_server_that_no_daemon_heard_of_does_not_stay() {
    let bundle = Bundle::new("unheard", &["true"]);
    assert!(!bundle.start_unheard().wait().unwrap().success());
    let pid = std::fs::read_to_string(bundle.path().join("shim.pid")).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    let lives = || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    while lives() {
        assert!(Instant::now() < deadline, "the server lives on");
        thread::sleep(Duration::from_millis(2));
    }
    let address = std::fs::read_to_string(bundle.path().join("address")).unwrap();
    assert!(!std::path::Path::new(address.strip_prefix("unix://").unwrap()).exists(), "its socket is left");
}
