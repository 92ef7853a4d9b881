//! Checkpoint and restore as the shim has the OCI runtime do them. The runtime here is a script around the one under
//! test: CRIU itself is the runtime's business.

#[allow(dead_code)] // each test uses some of it
mod stack;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use stack::{Bundle, Shim};
use wharf_containerd::containerd::runc::v1::CheckpointOptions;
use wharf_containerd::containerd::task::v3::{
    CheckpointTaskRequest, CreateTaskRequest, CreateTaskResponse, ExecProcessRequest, KillRequest,
    PauseRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
    WaitRequest, WaitResponse,
};
use wharf_containerd::containerd::v1::types::Status;
use wharf_containerd::to_any;

/// Writes what it was called with to `calls`; `checkpoint` leaves an image and kills the container unless it is to go
/// on, or fails as CRIU does while there is a file `fails`; `restore` makes and starts the container.
const SCRIPT: &str = include_str!("stack/criu.sh");

/// The script as a runtime, in the bundle's folder.
fn wrapped(bundle: &Bundle) -> PathBuf {
    let path = bundle.dir().join("wrapped");
    std::fs::write(&path, SCRIPT.replace("RUNTIME", &stack::runtime())).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn create(bundle: &Bundle, checkpoint: &str) -> CreateTaskRequest {
    CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        options: Some(bundle.options_of(wrapped(bundle).to_str().unwrap())),
        checkpoint: checkpoint.to_owned(),
        ..CreateTaskRequest::default()
    }
}

fn state(shim: &mut Shim, bundle: &Bundle) -> (Status, u32) {
    let request = StateRequest { id: bundle.id.clone(), ..Default::default() };
    let state: StateResponse = shim.call("State", &request).unwrap();
    (state.status(), state.pid)
}

fn checkpoint(bundle: &Bundle, path: &Path, exit: bool) -> CheckpointTaskRequest {
    let options = CheckpointOptions { exit, file_locks: true, ..CheckpointOptions::default() };
    CheckpointTaskRequest {
        id: bundle.id.clone(),
        path: path.to_str().unwrap().to_owned(),
        options: Some(to_any("containerd.runc.v1.CheckpointOptions", &options)),
    }
}

fn start(shim: &mut Shim, bundle: &Bundle) -> u32 {
    let request = StartRequest { id: bundle.id.clone(), ..Default::default() };
    shim.call::<_, StartResponse>("Start", &request).unwrap().pid
}

fn end(shim: &mut Shim, bundle: &Bundle) -> u32 {
    let wait = WaitRequest { id: bundle.id.clone(), ..Default::default() };
    let ended: WaitResponse = shim.call("Wait", &wait).unwrap();
    shim.delete(&bundle.id, "");
    ended.exit_status
}

#[test]
fn root_a_container_goes_on_from_a_checkpoint() {
    let bundle = Bundle::new("saved", &["sleep", "1000"]);
    let images = bundle.dir().join("images");
    let mut shim = bundle.start();
    let _: CreateTaskResponse = shim.call("Create", &create(&bundle, "")).unwrap();
    let early = shim.call::<_, ()>("Checkpoint", &checkpoint(&bundle, &images, true)).unwrap_err();
    assert!(early.to_string().contains("cannot checkpoint a task in created state"), "{early}");
    start(&mut shim, &bundle);

    std::fs::write(bundle.dir().join("fails"), "").unwrap();
    let failed = shim.call::<_, ()>("Checkpoint", &checkpoint(&bundle, &images, true)).unwrap_err();
    let log = bundle.path().join("criu-dump.log");
    let text = format!("criu failed: type NOTIFY errno 0 path= {}", log.display());
    assert_eq!(failed.to_string(), text);
    assert_eq!(std::fs::read_to_string(log).unwrap(), "the log of CRIU\n");
    assert_eq!(state(&mut shim, &bundle).0, Status::Running, "a failed checkpoint changes nothing");
    std::fs::remove_file(bundle.dir().join("fails")).unwrap();

    let () = shim.call("Checkpoint", &checkpoint(&bundle, &images, false)).unwrap();
    assert!(images.join("pages-1.img").exists());
    assert_eq!(state(&mut shim, &bundle).0, Status::Running, "it was to go on");
    let () = shim.call("Checkpoint", &checkpoint(&bundle, &images, true)).unwrap();
    let calls = std::fs::read_to_string(bundle.dir().join("calls")).unwrap();
    let saved = |flags: &str| {
        let work = bundle.path().join("work/criu-work");
        let (images, work) = (images.display(), work.display());
        format!("checkpoint --image-path {images} --work-path {work} {flags} {}\n", bundle.id)
    };
    assert!(calls.contains(&saved("--file-locks --leave-running")), "{calls}");
    assert!(calls.contains(&saved("--file-locks")), "{calls}");
    assert!(!bundle.path().join("work/criu-work").exists(), "where CRIU worked is removed");
    assert_eq!(end(&mut shim, &bundle), 137);

    let created: CreateTaskResponse =
        shim.call("Create", &create(&bundle, images.to_str().unwrap())).unwrap();
    assert_eq!((created.pid, state(&mut shim, &bundle)), (0, (Status::Created, 0)));
    let exec = ExecProcessRequest {
        id: bundle.id.clone(),
        exec_id: "e".into(),
        spec: Some(bundle.process(&["sh"])),
        ..Default::default()
    };
    let refused = shim.call::<_, ()>("Exec", &exec).unwrap_err().to_string();
    assert!(refused.contains("cannot exec in a created state"), "{refused}");
    let pause = PauseRequest { id: bundle.id.clone() };
    let refused = shim.call::<_, ()>("Pause", &pause).unwrap_err().to_string();
    assert!(refused.contains("cannot pause task in created state"), "{refused}");
    let pid = start(&mut shim, &bundle);
    assert!(pid > 0);
    assert_eq!(state(&mut shim, &bundle), (Status::Running, pid));
    let calls = std::fs::read_to_string(bundle.dir().join("calls")).unwrap();
    let (from, to) = (images.display(), bundle.path());
    let restored = format!(
        "restore --image-path {from} --work-path {0}/work --detach --no-subreaper --bundle {0} ",
        to.display()
    );
    assert!(calls.contains(&restored), "{restored}\n{calls}");
    let stats = StatsRequest { id: bundle.id.clone() };
    let stats: StatsResponse = shim.call("Stats", &stats).unwrap();
    assert!(stats.stats.is_some(), "its cgroup is known");
    let kill = KillRequest { id: bundle.id.clone(), signal: 9, ..Default::default() };
    let () = shim.call("Kill", &kill).unwrap();
    assert_eq!(end(&mut shim, &bundle), 137);
    shim.shutdown();
}

#[test]
fn root_a_container_that_was_never_restored_can_be_deleted() {
    let bundle = Bundle::new("unsaved", &["sleep", "1000"]);
    let mut shim = bundle.start();
    let relative = shim.call::<_, CreateTaskResponse>("Create", &create(&bundle, "images")).unwrap_err();
    assert!(relative.to_string().contains("not an absolute path"), "{relative}");
    let created: CreateTaskResponse = shim.call("Create", &create(&bundle, "/no/images")).unwrap();
    assert_eq!(created.pid, 0);
    assert_eq!(shim.delete(&bundle.id, "").pid, 0);
    shim.shutdown();
}
