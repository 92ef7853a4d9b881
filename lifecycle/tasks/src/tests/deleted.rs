//! Tasks that clients were told are deleted, found by a daemon that starts anew.

use tokio::net::UnixListener;

use super::*;

/// Has the task of a served shim marked as deleted, by a daemon that is gone.
async fn mark(stack: &Stack, id: &str) {
    let first = stack.tasks();
    first.create(create(id)).await.expect("create");
    // that daemon does nothing more
    assert!(first.find("ns", id).expect("task").claim_ending());
    std::fs::write(stack.bundle(id).join("deleted"), "").expect("mark");
}

#[tokio::test(flavor = "multi_thread")]
async fn id_is_not_free_while_a_shim_that_died_is_cleaned_up_after() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let mut shim = stack.shim("c1", &behaviour).await;
    mark(&stack, "c1").await;
    shim.shutdown().await.expect("shim dies");
    drop(shim);
    // one in its place that takes the connection and dies before it answers
    let socket = stack.at.path().join("c1.sock");
    std::fs::remove_file(&socket).expect("the old one");
    let dying = UnixListener::bind(&socket).expect("bind");
    let died = tokio::spawn(async move {
        let (connection, _) = dying.accept().await.expect("connection");
        drop(dying);
        drop(connection);
    });
    stack.hold_clean_up("c1");
    let mut events = stack.exchange.subscribe(&[]).expect("subscribe");
    let tasks = stack.tasks();
    assert_eq!(tasks.recover().await.expect("recover").tasks, 1);
    died.await.expect("no panic");
    until(|| stack.is_being_cleaned_up("c1")).await;
    assert!(tasks.list("ns").is_empty());
    let _shim = stack.shim("c1", &behaviour).await;
    let there = tasks.clone();
    let created = tokio::spawn(async move { there.create(create("c1")).await });
    tokio::time::sleep(Duration::from_millis(50)).await; // what must not come cannot be waited for
    assert!(!created.is_finished());
    stack.let_clean_up_end("c1");
    assert_eq!(created.await.expect("no panic").expect("create"), 42);
    assert!(stack.was_cleaned_up("c1") && stack.bundle("c1").exists());
    assert!(!stack.bundle("c1").join("exit.json").exists());
    // nobody hears once more how the deleted one ended
    tasks.forward(exit_event("c1", 42, 7)).expect("forward");
    let event = tokio::time::timeout(SOON, events.next()).await.expect("in time");
    let event = event.expect("event").expect("in time");
    assert_eq!(event.topic, "/tasks/exit");
    assert_eq!(TaskExit::decode(event.event.value.as_slice()).expect("exit").exit_status, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_shim_does_not_keep_the_id() {
    let (stack, hung, behaviour) = (Stack::new(), Behaviour::new(), Behaviour::new());
    let _hung = stack.shim("c1", &hung).await;
    mark(&stack, "c1").await;
    hung.silent.store(true, Ordering::SeqCst);
    let tasks = stack.tasks();
    tasks.recover().await.expect("recover");
    assert!(tasks.list("ns").is_empty());
    until(|| !stack.bundle("c1").exists()).await;
    let _shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shim_that_still_has_the_task_deletes_it() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let _shim = stack.shim("c1", &behaviour).await;
    mark(&stack, "c1").await;
    behaviour.exit.send_replace(Some(3));
    let tasks = stack.tasks();
    tasks.recover().await.expect("recover");
    assert!(tasks.list("ns").is_empty());
    until(|| !stack.bundle("c1").exists()).await;
    assert!(behaviour.was_called("Delete") && behaviour.was_called("Shutdown"));
    assert!(!stack.was_cleaned_up("c1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shim_that_does_not_delete_the_task_is_cleaned_up_after() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let _shim = stack.shim("c1", &behaviour).await;
    mark(&stack, "c1").await;
    let tasks = stack.tasks();
    tasks.recover().await.expect("recover");
    until(|| !stack.bundle("c1").exists()).await;
    assert!(behaviour.was_called("Shutdown") && stack.was_cleaned_up("c1"));
}
