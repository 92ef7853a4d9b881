//! Checkpoints in the content store. The runtime is a script around ours: CRIU itself is the runtime's business.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use wharf_containerd::containerd::runc::v1::{CheckpointOptions, Options};
use wharf_containerd::containerd::services::tasks::v1 as tasks;
use wharf_containerd::containerd::types::Descriptor;
use wharf_containerd::containerd::v1::types::Status;
use wharf_containerd::{to_any, type_url};
use wharf_integration_tests::program;

use crate::daemon::{Daemon, UNTIL_TERM, state, task, within};

const IMAGES: &str = "application/vnd.containerd.container.criu.checkpoint.criu.tar";
const CONFIG: &str = "application/vnd.containerd.container.checkpoint.config.v1+proto";
const SCRIPT: &str = include_str!("../../../shim/tests/stack/criu.sh");

async fn checkpoint(daemon: &Daemon) -> Vec<Descriptor> {
    let options = CheckpointOptions { exit: true, ..CheckpointOptions::default() };
    let request = tasks::CheckpointTaskRequest {
        container_id: "c".into(),
        options: Some(to_any("containerd.runc.v1.CheckpointOptions", &options)),
        ..tasks::CheckpointTaskRequest::default()
    };
    daemon.tasks().checkpoint(within(request)).await.expect("a checkpoint").into_inner().descriptors
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_task_goes_on_from_a_checkpoint_in_the_content_store() {
    let daemon = Daemon::start().await;
    let runtime = daemon.path("runtime");
    fs::write(&runtime, SCRIPT.replace("RUNTIME", &program("runw").display().to_string())).expect("a script");
    fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).expect("executable");
    let options = Options { binary_name: runtime.display().to_string(), ..Options::default() };
    let options = Some(to_any(type_url::RUNC_OPTIONS, &options));
    daemon.record_as("c", &daemon.spec("c", &UNTIL_TERM), "", options).await;
    daemon.launch("c").await.expect("it runs");

    let saved = checkpoint(&daemon).await;
    let kinds: Vec<_> = saved.iter().map(|blob| blob.media_type.as_str()).collect();
    assert_eq!(kinds, [IMAGES, CONFIG]);
    assert!(saved.iter().all(|blob| blob.digest.starts_with("sha256:") && blob.size > 0));
    assert_eq!(daemon.wait("c").await, 137, "it was to end");
    let delete = tasks::DeleteTaskRequest { container_id: "c".into() };
    daemon.tasks().delete(within(delete)).await.expect("it is deleted");

    let wrong = Descriptor { media_type: CONFIG.into(), ..saved[0].clone() };
    let refused = daemon.launch_from("c", Some(wrong)).await.expect_err("no checkpoint");
    assert!(refused.message().contains("unsupported checkpoint type"), "{refused}");
    let pid = daemon.launch_from("c", Some(saved[0].clone())).await.expect("it goes on");
    let listed = daemon.list().await;
    assert_eq!((task(&listed, "c").pid, state(task(&listed, "c"))), (pid, Status::Running));
    let image = daemon.bundles().join("c/checkpoint/pages-1.img");
    assert_eq!(fs::read(image).expect("what was saved is in the bundle"), b"image\n");
    daemon.kill_task("c").await.expect("it lives");
    assert_eq!(daemon.wait("c").await, 137);
    assert_eq!(daemon.delete("c").await.expect("it is deleted"), 137);
    daemon.assert_nothing_left();
}
