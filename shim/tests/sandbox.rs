//! The sandbox API, and containers that share a shim.

#[allow(dead_code)] // each test uses some of it
mod stack;

use stack::{Bundle, Shim};
use wharf_containerd::containerd::runtime::sandbox::v1::{
    CreateSandboxRequest, PingRequest, PlatformRequest, PlatformResponse, SandboxMetricsRequest,
    SandboxMetricsResponse, SandboxStatusRequest, SandboxStatusResponse, ShutdownSandboxRequest,
    StartSandboxRequest, StartSandboxResponse, StopSandboxRequest, WaitSandboxRequest, WaitSandboxResponse,
};
use wharf_containerd::containerd::task::v3::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, KillRequest, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, WaitRequest, WaitResponse,
};
use wharf_containerd::containerd::v1::types::Status;
use wharf_kinds::Kind;
use wharf_shim::ttrpc::CallError;

fn kind(error: &CallError) -> Kind {
    match error {
        CallError::Answer { kind, .. } => *kind,
        other => panic!("no answer: {other}"),
    }
}

fn run(shim: &mut Shim, bundle: &Bundle) -> Result<u32, CallError> {
    let request = CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        options: Some(bundle.options()),
        ..CreateTaskRequest::default()
    };
    let _: CreateTaskResponse = shim.call("Create", &request)?;
    let started: StartResponse =
        shim.call("Start", &StartRequest { id: bundle.id.clone(), ..StartRequest::default() })?;
    Ok(started.pid)
}

fn state(shim: &mut Shim, bundle: &Bundle) -> StateResponse {
    shim.call("State", &StateRequest { id: bundle.id.clone(), ..StateRequest::default() }).unwrap()
}

fn status(shim: &mut Shim, id: &str) -> SandboxStatusResponse {
    let request = SandboxStatusRequest { sandbox_id: id.to_owned(), verbose: true };
    shim.call_sandbox("SandboxStatus", &request).unwrap()
}

/// A sandbox, created and started.
fn ready(bundle: &Bundle) -> Shim {
    std::fs::remove_file(bundle.path().join("config.json")).unwrap();
    let mut shim = bundle.start();
    let create = CreateSandboxRequest {
        sandbox_id: bundle.id.clone(),
        bundle_path: bundle.path().to_str().unwrap().to_owned(),
        netns_path: "/run/netns/pod".to_owned(),
        ..CreateSandboxRequest::default()
    };
    let () = shim.call_sandbox("CreateSandbox", &create).unwrap();
    let again = shim.call_sandbox::<_, ()>("CreateSandbox", &create).unwrap_err();
    assert_eq!(kind(&again), Kind::AlreadyExists);
    assert_eq!(status(&mut shim, &bundle.id).state, "SANDBOX_NOTREADY");
    let start = StartSandboxRequest { sandbox_id: bundle.id.clone() };
    let started: StartSandboxResponse = shim.call_sandbox("StartSandbox", &start).unwrap();
    assert!(started.created_at.is_some());
    let again = shim.call_sandbox::<_, StartSandboxResponse>("StartSandbox", &start).unwrap_err();
    assert_eq!(kind(&again), Kind::FailedPrecondition);
    shim
}

#[test]
fn root_a_sandbox_keeps_its_shim_until_it_is_shut_down() {
    let pod = Bundle::new("pod", &["sleep", "1000"]);
    let mut shim = ready(&pod);
    let id = pod.id.clone();
    let platform: PlatformResponse =
        shim.call_sandbox("Platform", &PlatformRequest { sandbox_id: id.clone() }).unwrap();
    assert_eq!(platform.platform.unwrap().os, "linux");
    let () = shim.call_sandbox("PingSandbox", &PingRequest { sandbox_id: id.clone() }).unwrap();
    let other = shim.call_sandbox::<_, ()>("PingSandbox", &PingRequest { sandbox_id: "other".into() });
    assert_eq!(kind(&other.unwrap_err()), Kind::NotFound);

    let waiter = std::thread::spawn({
        let (mut shim, request) = (pod.connect(), WaitSandboxRequest { sandbox_id: id.clone() });
        move || shim.call_sandbox::<_, WaitSandboxResponse>("WaitSandbox", &request).unwrap()
    });

    // a container of it comes and goes, and the shim stays
    let brief = Bundle::grouped("brief", &["sleep", "1000"], &pod);
    run(&mut shim, &brief).unwrap();
    let kill = KillRequest { id: brief.id.clone(), signal: 9, ..KillRequest::default() };
    let () = shim.call("Kill", &kill).unwrap();
    let ended: WaitResponse =
        shim.call("Wait", &WaitRequest { id: brief.id.clone(), ..WaitRequest::default() }).unwrap();
    assert_eq!(ended.exit_status, 137);
    shim.delete(&brief.id, "");
    let () = shim.call("Shutdown", &ShutdownRequest { id: brief.id.clone(), now: false }).unwrap();

    // one that heeds no SIGTERM is killed when the time is over
    let deaf = Bundle::grouped("deaf", &["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"], &pod);
    run(&mut shim, &deaf).unwrap();
    let ready = status(&mut shim, &id);
    assert_eq!(
        (ready.state.as_str(), ready.info["containers"].as_str()),
        ("SANDBOX_READY", deaf.id.as_str())
    );
    assert_eq!(ready.info["netnsPath"], "/run/netns/pod");
    let metrics: SandboxMetricsResponse =
        shim.call_sandbox("SandboxMetrics", &SandboxMetricsRequest { sandbox_id: id.clone() }).unwrap();
    let metrics = metrics.metrics.unwrap();
    assert!(metrics.id == id && !metrics.data.unwrap().value.is_empty());
    let () = shim
        .call_sandbox("StopSandbox", &StopSandboxRequest { sandbox_id: id.clone(), timeout_secs: 1 })
        .unwrap();
    assert_eq!(state(&mut shim, &deaf).status(), Status::Stopped);
    assert_eq!(state(&mut shim, &deaf).exit_status, 137);
    let waited = waiter.join().unwrap();
    assert!(waited.exit_status == 0 && waited.exited_at.is_some());
    let stopped = status(&mut shim, &id);
    assert!(stopped.state == "SANDBOX_NOTREADY" && stopped.exited_at.is_some());

    let late = Bundle::grouped("late", &["sleep", "1000"], &pod);
    assert_eq!(kind(&run(&mut shim, &late).unwrap_err()), Kind::FailedPrecondition);
    // what is left goes with it
    let _ = shim.call_sandbox::<_, ()>("ShutdownSandbox", &ShutdownSandboxRequest { sandbox_id: id.clone() });
    shim.ended();
}

#[test]
fn root_containers_of_a_group_share_one_shim_which_goes_with_the_last() {
    let first = Bundle::new("first", &["sleep", "1000"]);
    let second = Bundle::grouped("second", &["sleep", "1000"], &first);
    let mut shim = first.start();
    run(&mut shim, &first).unwrap();
    let mut joined = second.start();
    run(&mut joined, &second).unwrap();
    let pid_of = |shim: &mut Shim, id: &str| {
        let answer: ConnectResponse = shim.call("Connect", &ConnectRequest { id: id.to_owned() }).unwrap();
        answer.shim_pid
    };
    assert_eq!(pid_of(&mut shim, &first.id), pid_of(&mut joined, &second.id));

    let end = |shim: &mut Shim, bundle: &Bundle| {
        let kill = KillRequest { id: bundle.id.clone(), signal: 9, ..KillRequest::default() };
        let () = shim.call("Kill", &kill).unwrap();
        let _: WaitResponse =
            shim.call("Wait", &WaitRequest { id: bundle.id.clone(), ..WaitRequest::default() }).unwrap();
        shim.delete(&bundle.id, "");
    };
    // the one that began it goes first: the other is not disturbed
    end(&mut shim, &first);
    let () = shim.call("Shutdown", &ShutdownRequest { id: first.id.clone(), now: false }).unwrap();
    assert_eq!(state(&mut joined, &second).status(), Status::Running);
    end(&mut joined, &second);
    let _ = joined.call::<_, ()>("Shutdown", &ShutdownRequest { id: second.id.clone(), now: false });
    shim.ended();
}
