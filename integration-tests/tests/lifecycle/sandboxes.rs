//! The sandbox store and controller, and containers in a sandbox.

use tonic::Code;
use tonic::transport::Channel;
use wharf_containerd::containerd::services::sandbox::v1 as api;
use wharf_containerd::containerd::services::sandbox::v1::controller_client::ControllerClient;
use wharf_containerd::containerd::services::sandbox::v1::store_client::StoreClient;
use wharf_containerd::containerd::types::{Sandbox, sandbox};
use wharf_containerd::containerd::v1::types::Status;

use crate::daemon::{Daemon, RUNTIME, SOON, UNTIL_TERM, state, task, within};

const ID: &str = "pod";
const SANDBOXER: &str = "shim";

fn controller(daemon: &Daemon) -> ControllerClient<Channel> {
    ControllerClient::new(daemon.channel())
}

fn described() -> Sandbox {
    Sandbox {
        sandbox_id: ID.into(),
        runtime: Some(sandbox::Runtime { name: RUNTIME.into(), options: None }),
        sandboxer: SANDBOXER.into(),
        labels: [("tier".to_owned(), "one".to_owned())].into(),
        ..Sandbox::default()
    }
}

async fn status(daemon: &Daemon) -> api::ControllerStatusResponse {
    let request =
        api::ControllerStatusRequest { sandbox_id: ID.into(), sandboxer: SANDBOXER.into(), verbose: true };
    controller(daemon).status(within(request)).await.expect("a status").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_sandbox_and_its_containers_live_through_the_daemons_death() {
    let mut daemon = Daemon::start().await;
    let mut store = StoreClient::new(daemon.channel());
    let create = api::StoreCreateRequest { sandbox: Some(described()) };
    let made = store.create(within(create.clone())).await.expect("a record").into_inner();
    assert_eq!(made.sandbox.expect("it").labels["tier"], "one");
    let again = store.create(within(create)).await.expect_err("it is there");
    assert_eq!(again.code(), Code::AlreadyExists);

    let create = api::ControllerCreateRequest {
        sandbox_id: ID.into(),
        sandboxer: SANDBOXER.into(),
        ..Default::default()
    };
    let by_record = controller(&daemon).create(within(create.clone())).await.expect("a sandbox");
    assert_eq!(by_record.into_inner().sandbox_id, ID);
    assert_eq!(
        controller(&daemon).create(within(create)).await.expect_err("twice").code(),
        Code::AlreadyExists
    );
    assert_eq!(status(&daemon).await.state, "SANDBOX_NOTREADY");
    let start = api::ControllerStartRequest { sandbox_id: ID.into(), sandboxer: SANDBOXER.into() };
    let started = controller(&daemon).start(within(start)).await.expect("it starts").into_inner();
    assert!(started.address.starts_with("ttrpc+unix:///"), "{}", started.address);
    assert_eq!(started.version, 3);
    let platform = api::ControllerPlatformRequest { sandbox_id: ID.into(), sandboxer: SANDBOXER.into() };
    let platform = controller(&daemon).platform(within(platform)).await.expect("one").into_inner();
    assert_eq!(platform.platform.expect("one").os, "linux");

    for id in ["web", "log"] {
        daemon.record(id, &UNTIL_TERM, ID).await;
        daemon.launch(id).await.expect("it runs in the sandbox");
        assert!(!daemon.bundles().join(id).join("shim.pid").exists(), "it has no shim of its own");
    }
    let ready = status(&daemon).await;
    assert_eq!((ready.state.as_str(), ready.pid), ("SANDBOX_READY", started.pid));
    assert_eq!(ready.info["containers"], "log,web");
    let metrics = api::ControllerMetricsRequest { sandbox_id: ID.into(), sandboxer: SANDBOXER.into() };
    let metrics = controller(&daemon).metrics(within(metrics)).await.expect("metrics").into_inner();
    assert_eq!(metrics.metrics.expect("some").id, ID);

    daemon.kill();
    daemon.start_again().await;
    let back = status(&daemon).await;
    assert_eq!((back.state.as_str(), back.pid), ("SANDBOX_READY", started.pid), "the same shim");
    let mut store = StoreClient::new(daemon.channel());
    let filters = vec!["labels.tier==one".to_owned()];
    let found = store.list(within(api::StoreListRequest { filters })).await.expect("a list").into_inner();
    assert_eq!(found.list.len(), 1);
    let listed = daemon.settled(&[]).await;
    for id in ["web", "log"] {
        assert_eq!(state(task(&listed, id)), Status::Running, "{id}");
    }
    // one more joins what an earlier daemon began
    daemon.record("late", &UNTIL_TERM, ID).await;
    daemon.launch("late").await.expect("it runs in the sandbox");
    assert_eq!(status(&daemon).await.info["containers"], "late,log,web");
    daemon.kill_task("late").await.expect("it lives");
    assert_eq!(daemon.wait("late").await, 137);
    daemon.delete("late").await.expect("it is deleted");
    assert_eq!(status(&daemon).await.state, "SANDBOX_READY", "the others and the sandbox go on");

    let mut waiter = controller(&daemon);
    let wait = api::ControllerWaitRequest { sandbox_id: ID.into(), sandboxer: SANDBOXER.into() };
    let waiting = tokio::spawn(async move { waiter.wait(within(wait)).await });
    let stop =
        api::ControllerStopRequest { sandbox_id: ID.into(), sandboxer: SANDBOXER.into(), timeout_secs: 20 };
    // those that were killed in the end would not have exited with 7
    controller(&daemon).stop(within(stop)).await.expect("it stops");
    let ended = tokio::time::timeout(SOON, waiting).await.expect("told").expect("no panic");
    assert_eq!(ended.expect("an end").into_inner().exit_status, 0);
    assert_eq!(status(&daemon).await.state, "SANDBOX_NOTREADY");
    for id in ["web", "log"] {
        assert_eq!(daemon.delete(id).await.expect("it is deleted"), 7, "{id}");
    }
    let shutdown = api::ControllerShutdownRequest { sandbox_id: ID.into(), sandboxer: SANDBOXER.into() };
    controller(&daemon).shutdown(within(shutdown)).await.expect("it goes");
    let delete = api::StoreDeleteRequest { sandbox_id: ID.into() };
    store.delete(within(delete)).await.expect("its record goes");
    let get = api::StoreGetRequest { sandbox_id: ID.into() };
    assert_eq!(store.get(within(get)).await.expect_err("gone").code(), Code::NotFound);
    assert_eq!(status(&daemon).await.state, "", "one that is not there has ended");
    daemon.assert_nothing_left();
}
