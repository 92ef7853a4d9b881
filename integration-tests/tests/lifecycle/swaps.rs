//! Other OCI runtimes under our shim, by `binary_name` of runc's options.

use std::path::Path;

use wharf_containerd::containerd::runc::v1::Options;
use wharf_containerd::containerd::services::tasks::v1 as tasks;
use wharf_containerd::containerd::v1::types::Status;
use wharf_containerd::{to_any, type_url};

use crate::daemon::{Daemon, UNTIL_TERM, state, task, within};

async fn runs_with(runtime: &str) {
    let daemon = Daemon::start().await;
    let root = daemon.path("state-of-it").display().to_string();
    let options = Options { binary_name: runtime.into(), root, ..Options::default() };
    let options = Some(to_any(type_url::RUNC_OPTIONS, &options));
    let spec = daemon.spec("c", &UNTIL_TERM);
    daemon.record_as("c", &spec, "", options.clone()).await;
    daemon.launch("c").await.unwrap_or_else(|status| panic!("{runtime}: {status}"));
    let known = daemon.path("state-of-it").join("test/c");
    assert!(known.exists(), "{runtime} has it in its own folder");

    let request = tasks::PauseTaskRequest { container_id: "c".into() };
    daemon.tasks().pause(within(request)).await.expect("it is paused");
    assert_eq!(state(task(&daemon.list().await, "c")), Status::Paused);
    let request = tasks::ResumeTaskRequest { container_id: "c".into() };
    daemon.tasks().resume(within(request)).await.expect("it goes on");
    let request =
        tasks::KillRequest { container_id: "c".into(), signal: 15, ..tasks::KillRequest::default() };
    daemon.tasks().kill(within(request)).await.expect("it gets the signal");
    assert_eq!(daemon.wait("c").await, 7);
    assert_eq!(daemon.delete("c").await.expect("it is deleted"), 7);
    assert!(!known.exists(), "{runtime} has forgotten it");

    let spec = daemon.spec("none", &["/no/such/program"]);
    daemon.record_as("none", &spec, "", options).await;
    let refused = daemon.launch("none").await.expect_err("there is no such program").to_string();
    assert!(refused.to_lowercase().contains("no such file"), "{runtime}: {refused}");
    daemon.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_interop_our_shim_with_runc() {
    runs_with("runc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_interop_our_shim_with_crun() {
    if !Path::new("/sys/fs/cgroup/unified").exists() {
        return runs_with("crun").await;
    }
    // crun runs nothing beside both versions of cgroups; its own words come through
    let daemon = Daemon::start().await;
    let options = Options { binary_name: "crun".into(), ..Options::default() };
    let options = Some(to_any(type_url::RUNC_OPTIONS, &options));
    daemon.record_as("c", &daemon.spec("c", &UNTIL_TERM), "", options).await;
    let refused = daemon.launch("c").await.expect_err("crun refuses");
    assert!(refused.message().contains("OCI runtime create failed: cgroups in hybrid mode"), "{refused}");
    daemon.assert_nothing_left();
}
