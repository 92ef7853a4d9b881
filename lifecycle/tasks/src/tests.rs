//! Whole tasks against a fake shim.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lifecycle_events::{Envelope, Subscription};
use prost::Message;
use wharf_containerd::containerd::events::TaskExit;
use wharf_containerd::to_any;
use wharf_kinds::Kind;

use crate::fake::{Behaviour, Stack};
use crate::limits;
use crate::process::Phase;
use crate::{CreateTask, ExecTask, Tasks};

mod deleted;
mod execs;

fn create(id: &str) -> CreateTask {
    CreateTask { namespace: "ns".into(), id: id.into(), ..CreateTask::default() }
}

async fn running(tasks: &Tasks, id: &str) {
    assert_eq!(tasks.create(create(id)).await.expect("create"), 42);
    assert_eq!(tasks.start("ns", id, "").await.expect("start"), 42);
}

/// Generous: the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
async fn until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "condition never held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn next_topic(events: &mut Subscription) -> String {
    let event = tokio::time::timeout(SOON, events.next()).await.expect("an event in time");
    event.expect("exchange").expect("in time").topic.clone()
}

fn exit_event(id: &str, pid: u32, exit_status: u32) -> Envelope {
    let exit = TaskExit { container_id: id.into(), id: id.into(), pid, exit_status, exited_at: None };
    Envelope {
        timestamp: prost_types::Timestamp { seconds: 1, nanos: 0 },
        namespace: "ns".into(),
        topic: "/tasks/exit".into(),
        event: to_any("containerd.events.TaskExit", &exit),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn task_lives_from_create_to_delete() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let _shim = stack.shim("c1", &behaviour).await;
    assert_eq!(tasks.create(create("c1")).await.expect("create"), 42);
    assert_eq!(tasks.get("ns", "c1", "").await.expect("get").phase, Phase::Created);
    tasks.start("ns", "c1", "").await.expect("start");
    assert_eq!(tasks.list("ns")[0].phase, Phase::Running);
    assert!(tasks.list("other").is_empty());
    let refused = tasks.delete("ns", "c1").await.expect_err("still running");
    assert_eq!(refused.kind(), Kind::FailedPrecondition);
    assert_eq!(refused.to_string(), "failed to delete task: cannot delete a running process");
    behaviour.exit.send_replace(Some(3));
    assert_eq!(tasks.wait("ns", "c1", "").await.expect("wait").status, 3);
    assert!(matches!(tasks.list("ns")[0].phase, Phase::Stopped(exit) if exit.status == 3 && exit.pid == 42));
    let exit = tasks.delete("ns", "c1").await.expect("delete");
    assert_eq!((exit.status, exit.pid), (3, 42));
    assert!(tasks.list("ns").is_empty());
    until(|| behaviour.was_called("Shutdown") && !stack.bundle("c1").exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_task_is_gone_before_its_shim_and_its_id_is_free_after_it() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let _shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    behaviour.exit.send_replace(Some(3));
    tasks.wait("ns", "c1", "").await.expect("wait");
    behaviour.lingers.store(true, Ordering::SeqCst);
    assert_eq!(tasks.delete("ns", "c1").await.expect("delete").status, 3);
    assert!(tasks.list("ns").is_empty());
    assert_eq!(tasks.get("ns", "c1", "").await.expect_err("deleted").kind(), Kind::NotFound);
    assert_eq!(tasks.delete("ns", "c1").await.expect_err("deleted").kind(), Kind::NotFound);
    let there = tasks.clone();
    let created = tokio::spawn(async move { there.create(create("c1")).await });
    until(|| behaviour.was_called("Shutdown")).await;
    behaviour.lingers.store(false, Ordering::SeqCst);
    assert_eq!(created.await.expect("no panic").expect("the id is free"), 42);
    let calls = behaviour.calls.lock().expect("lock").clone();
    let last = |method: &str| calls.iter().rposition(|call| call == method).expect("called");
    assert!(last("Delete") < last("Shutdown") && last("Shutdown") < last("Create"), "{calls:?}");
    assert_eq!(tasks.list("ns").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_daemon_does_not_show_a_task_that_was_deleted() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let _shim = stack.shim("c1", &behaviour).await;
    stack.tasks().create(create("c1")).await.expect("create");
    std::fs::write(stack.bundle("c1").join("deleted"), "").expect("mark");
    behaviour.has_no_task.store(true, Ordering::SeqCst);
    behaviour.silent.store(true, Ordering::SeqCst);
    let tasks = stack.tasks();
    tasks.recover().await.expect("recover");
    assert!(tasks.list("ns").is_empty());
    behaviour.silent.store(false, Ordering::SeqCst);
    until(|| behaviour.was_called("Shutdown") && !stack.bundle("c1").exists()).await;
    assert!(tasks.list("ns").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_tasks_and_containers_are_told_apart() {
    let stack = Stack::new();
    let tasks = stack.tasks();
    let error = tasks.get("ns", "c1", "").await.expect_err("no task");
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::NotFound, "task c1 not found"));
    let error = tasks.get("ns", "no-c", "").await.expect_err("no container");
    assert_eq!(error.to_string(), r#"container "no-c" in namespace "ns": not found"#);
    let error = tasks.exec(ExecTask { namespace: "ns".into(), id: "c1".into(), ..ExecTask::default() });
    assert_eq!(error.await.expect_err("no exec id").to_string(), "exec id cannot be empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn task_cannot_be_created_twice() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let _shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    let error = tasks.create(create("c1")).await.expect_err("exists");
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::AlreadyExists, "task c1: already exists"));
    assert_eq!(tasks.list("ns")[0].phase, Phase::Running, "the first one is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_create_leaves_nothing_behind() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    behaviour.refuses_create.store(true, Ordering::SeqCst);
    let shim = stack.shim("c1", &behaviour).await;
    let error = tasks.create(create("c1")).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "failed to create shim task: OCI runtime create failed: no such file: unknown"
    );
    assert!(behaviour.was_called("Shutdown") && stack.was_cleaned_up("c1"));
    assert!(!stack.bundle("c1").exists());
    assert!(tasks.list("ns").is_empty());
    drop(shim);
    behaviour.refuses_create.store(false, Ordering::SeqCst);
    let _shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_shim_holds_up_nobody_else() {
    let (stack, stuck, quick) = (Stack::new(), Behaviour::new(), Behaviour::new());
    let tasks = stack.tasks();
    let _shims = (stack.shim("stuck", &stuck).await, stack.shim("quick", &quick).await);
    running(&tasks, "stuck").await;
    running(&tasks, "quick").await;
    stuck.silent.store(true, Ordering::SeqCst);
    let error = tasks.get("ns", "stuck", "some-exec").await.expect_err("asks the shim");
    assert_eq!(error.kind(), Kind::DeadlineExceeded);
    // less than anything waits for the stuck one, at the best of some times: the machine may be busy
    let mut best = Duration::MAX;
    for _ in 0..30 {
        let asked = Instant::now();
        assert_eq!(tasks.list("ns").len(), 2);
        assert_eq!(tasks.get("ns", "stuck", "").await.expect("from memory").phase, Phase::Unknown);
        assert_eq!(tasks.get("ns", "quick", "").await.expect("get").phase, Phase::Running);
        tasks.kill("ns", "quick", "", 15, false).await.expect("kill");
        best = best.min(asked.elapsed());
        if best < limits::STATE / 2 {
            break;
        }
    }
    assert!(best < limits::STATE / 2, "took {best:?}");
    stuck.silent.store(false, Ordering::SeqCst);
    until(|| tasks.list("ns").iter().all(|task| task.phase == Phase::Running)).await;
    tasks.kill("ns", "stuck", "", 15, false).await.expect("it answers again");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_shim_is_cleaned_up_after_and_announced_once() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let mut shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    let mut events = stack.exchange.subscribe(&[]).expect("subscribe");
    let waiter = tokio::spawn({
        let tasks = tasks.clone();
        async move { tasks.wait("ns", "c1", "").await }
    });
    tokio::task::yield_now().await;
    shim.shutdown().await.expect("shim dies");
    drop(shim);
    assert_eq!(next_topic(&mut events).await, "/tasks/exit");
    assert_eq!(waiter.await.expect("join").expect("wait").status, 9, "as the shim's program found out");
    assert!(stack.was_cleaned_up("c1"));
    assert!(
        matches!(tasks.list("ns")[0].phase, Phase::Stopped(exit) if exit.status == 9),
        "kept until deleted"
    );
    until(|| stack.bundle("c1").join("exit.json").exists()).await;
    // who was not listening learns it from a daemon that was not there either
    let second = stack.tasks();
    let found = second.recover().await.expect("recover");
    assert_eq!((found.tasks, found.dead, found.swept), (1, 0, 0));
    assert_eq!(second.wait("ns", "c1", "").await.expect("wait").status, 9);
    let error = second.kill("ns", "c1", "", 9, false).await.expect_err("it is dead");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (Kind::NotFound, "process already finished: not found")
    );
    assert_eq!(second.delete("ns", "c1").await.expect("delete").status, 9);
    assert_eq!(next_topic(&mut events).await, "/tasks/exit");
    assert_eq!(next_topic(&mut events).await, "/tasks/delete");
    assert!(second.list("ns").is_empty() && !stack.bundle("c1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_daemon_finds_tasks_and_their_exits() {
    let (stack, lives, ended) = (Stack::new(), Behaviour::new(), Behaviour::new());
    let first = stack.tasks();
    let _shims = (stack.shim("lives", &lives).await, stack.shim("ended", &ended).await);
    running(&first, "lives").await;
    running(&first, "ended").await;
    // another daemon on the same folders: the first one's connections do not matter to the shims
    ended.exit.send_replace(Some(7));
    let mut events = stack.exchange.subscribe(&[]).expect("subscribe");
    let second = stack.tasks();
    let found = second.recover().await.expect("recover");
    assert_eq!((found.tasks, found.dead, found.swept), (2, 0, 0));
    until(|| second.list("ns").iter().any(|task| task.id == "lives" && task.phase == Phase::Running)).await;
    assert_eq!(second.wait("ns", "ended", "").await.expect("wait").status, 7);
    let event = events.next().await.expect("event").expect("in time");
    let exit = TaskExit::decode(event.event.value.as_slice()).expect("exit");
    assert_eq!((exit.container_id.as_str(), exit.exit_status, exit.pid), ("ended", 7, 42));
    // the shim's own announcement, late: nobody hears it twice
    second.forward(exit_event("ended", 42, 7)).expect("forward");
    second.forward(exit_event("lives", 42, 5)).expect("forward");
    let event = events.next().await.expect("event").expect("in time");
    assert_eq!(TaskExit::decode(event.event.value.as_slice()).expect("exit").container_id, "lives");
    assert_eq!(second.wait("ns", "lives", "").await.expect("known from the event").status, 5);
    // an exec that the first daemon started
    assert_eq!(second.get("ns", "lives", "old-exec").await.expect("learned").id, "old-exec");
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_daemon_cleans_up_after_dead_shims_and_half_made_bundles() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let first = stack.tasks();
    let mut shim = stack.shim("c1", &behaviour).await;
    running(&first, "c1").await;
    let half_made = stack.bundle("half");
    std::fs::create_dir_all(half_made.join("rootfs")).expect("half a bundle");
    // keep the first daemon from noticing
    let task = first.find("ns", "c1").expect("task");
    assert!(task.claim_ending());
    shim.shutdown().await.expect("shim dies");
    drop(shim);
    let mut events = stack.exchange.subscribe(&[]).expect("subscribe");
    let second = stack.tasks();
    let found = second.recover().await.expect("recover");
    assert_eq!((found.tasks, found.dead, found.swept), (0, 1, 1));
    assert_eq!(next_topic(&mut events).await, "/tasks/exit");
    assert_eq!(second.delete("ns", "c1").await.expect("delete").status, 9);
    assert_eq!(next_topic(&mut events).await, "/tasks/delete");
    assert!(second.list("ns").is_empty());
    assert!(!half_made.exists() && !stack.bundle("c1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn task_whose_shim_died_can_be_created_anew() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let mut shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    shim.shutdown().await.expect("shim dies");
    drop(shim);
    until(|| stack.bundle("c1").join("exit.json").exists()).await;
    tasks.wait("ns", "c1", "").await.expect("wait");
    until(|| matches!(tasks.list("ns")[0].phase, Phase::Stopped(_))).await;
    let _shim = stack.shim("c1", &behaviour).await;
    let created = async {
        // between the exit being kept and the burial being over
        while tasks.create(create("c1")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, created).await.expect("in time");
    assert_eq!(tasks.list("ns")[0].phase, Phase::Created);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_shim_of_a_removed_container_leaves_nothing() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let mut shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    std::fs::write(stack.at.path().join("forgotten"), "").expect("remove the records");
    shim.shutdown().await.expect("shim dies");
    drop(shim);
    until(|| tasks.list("ns").is_empty() && !stack.bundle("c1").exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_shim_does_not_hold_up_the_start_and_is_back_when_it_answers() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let first = stack.tasks();
    let _shim = stack.shim("c1", &behaviour).await;
    running(&first, "c1").await;
    behaviour.silent.store(true, Ordering::SeqCst);
    let second = stack.tasks();
    // it would go on asking for ever
    tokio::time::timeout(SOON, second.recover()).await.expect("in time").expect("recover");
    assert_eq!(second.list("ns")[0].phase, Phase::Unknown);
    behaviour.silent.store(false, Ordering::SeqCst);
    until(|| second.list("ns")[0].phase == Phase::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_of_an_earlier_task_with_the_same_id_changes_nothing() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let _shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    tasks.forward(exit_event("c1", 41, 1)).expect("forward");
    assert_eq!(tasks.list("ns")[0].phase, Phase::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_shims_are_asked_at_the_same_time() {
    let stack = Stack::new();
    let first = stack.tasks();
    let behaviour = Behaviour::new();
    let mut shims = Vec::new();
    for n in 0..200 {
        shims.push(stack.shim(&format!("c{n}"), &behaviour).await);
    }
    for n in 0..200 {
        first.create(create(&format!("c{n}"))).await.expect("create");
    }
    behaviour.silent.store(true, Ordering::SeqCst);
    let second = stack.tasks();
    let begun = Instant::now();
    assert_eq!(second.recover().await.expect("recover").tasks, 200);
    assert!(begun.elapsed() < limits::RECONNECT * 100, "took {:?}", begun.elapsed());
    assert!(second.list("ns").iter().all(|task| task.phase == Phase::Unknown));
    behaviour.silent.store(false, Ordering::SeqCst);
    until(|| second.list("ns").iter().all(|task| task.phase == Phase::Running)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn task_being_created_is_listed_and_can_be_deleted_once_it_is_there() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let _shim = stack.shim("c1", &behaviour).await;
    behaviour.silent.store(true, Ordering::SeqCst);
    behaviour.exit.send_replace(Some(0));
    let there = tasks.clone();
    let created = tokio::spawn(async move { there.create(create("c1")).await });
    until(|| behaviour.was_called("Create")).await;
    assert_eq!(tasks.list("ns").iter().map(|task| task.phase).collect::<Vec<_>>(), [Phase::Unknown]);
    let there = tasks.clone();
    let deleted = tokio::spawn(async move { there.delete("ns", "c1").await });
    tokio::time::sleep(Duration::from_millis(50)).await; // what must not come cannot be waited for
    assert!(!deleted.is_finished());
    behaviour.silent.store(false, Ordering::SeqCst);
    assert_eq!(created.await.expect("no panic").expect("create"), 42);
    assert_eq!(deleted.await.expect("no panic").expect("delete").status, 0);
    assert!(tasks.list("ns").is_empty());
    until(|| !stack.bundle("c1").exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_up_after_a_dead_shim_is_tried_again() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let mut shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    stack.fail_clean_up("c1");
    shim.shutdown().await.expect("shim dies");
    drop(shim);
    assert_eq!(tasks.wait("ns", "c1", "").await.expect("wait").status, 9, "what the second attempt found");
    assert!(stack.was_cleaned_up("c1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_daemon_cleans_up_after_shims_without_a_task() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let _shim = stack.shim("c1", &behaviour).await;
    stack.tasks().create(create("c1")).await.expect("create");
    behaviour.has_no_task.store(true, Ordering::SeqCst);
    let tasks = stack.tasks();
    tasks.recover().await.expect("recover");
    until(|| !stack.bundle("c1").exists()).await;
    // the shim was asked to go, and what it may have begun to make is taken away
    assert!(behaviour.was_called("Shutdown") && stack.was_cleaned_up("c1"));
    until(|| tasks.list("ns").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_broke_is_not_kept_by_who_waits() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let mut shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    let first = tasks.find("ns", "c1").and_then(|task| task.client()).expect("connected").identity();
    // there is always one that accepts
    let _shim = stack.shim("c1", &behaviour).await;
    shim.shutdown().await.expect("its connections break");
    until(|| first.is_closed()).await;
    behaviour.exit.send_replace(Some(3));
    assert_eq!(tasks.wait("ns", "c1", "").await.expect("asked again").status, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn shim_that_speaks_grpc_is_served_the_same_way() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let shim = crate::fake::serve_grpc(&stack.at.path().join("grpc-c1.sock"), &behaviour);
    running(&tasks, "grpc-c1").await;
    assert_eq!(tasks.list("ns")[0].phase, Phase::Running);
    let refused = tasks.delete("ns", "grpc-c1").await.expect_err("still running");
    assert_eq!(
        (refused.kind(), refused.to_string().as_str()),
        (Kind::FailedPrecondition, "failed to delete task: cannot delete a running process")
    );
    // a daemon that comes back knows by the bundle what it speaks
    let second = stack.tasks();
    assert_eq!(second.recover().await.expect("recover").tasks, 1);
    assert_eq!(second.get("ns", "grpc-c1", "").await.expect("get").phase, Phase::Running);
    behaviour.exit.send_replace(Some(3));
    assert_eq!(second.wait("ns", "grpc-c1", "").await.expect("wait").status, 3);
    assert_eq!(second.delete("ns", "grpc-c1").await.expect("delete").status, 3);
    until(|| behaviour.was_called("Shutdown") && !stack.bundle("grpc-c1").exists()).await;
    shim.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_shim_that_spoke_grpc_is_cleaned_up_after() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let socket = stack.at.path().join("grpc-c1.sock");
    // with a runtime of its own, whose end closes its connections as a process's does
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let shim = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let server = runtime.block_on(async { crate::fake::serve_grpc(&socket, &behaviour) });
        ready.send(()).expect("awaited");
        let _ = stopped.recv();
        server.abort();
        runtime.shutdown_background();
    });
    is_ready.await.expect("serves");
    running(&tasks, "grpc-c1").await;
    drop(stop);
    shim.join().expect("ends");
    assert_eq!(tasks.wait("ns", "grpc-c1", "").await.expect("wait").status, 9, "as its program found out");
    assert!(stack.was_cleaned_up("grpc-c1"));
}
