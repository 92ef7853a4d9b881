//! Execs whose ids are used again while the events of their former bearers are still under way.

use super::*;
use crate::TaskError;

fn exec(id: &str) -> ExecTask {
    ExecTask { namespace: "ns".into(), id: "c1".into(), exec: id.into(), ..ExecTask::default() }
}

/// Runs an exec to its end and deletes it. Returns its events, which nobody has got.
async fn through(tasks: &Tasks, shim: &Behaviour, id: &str, status: u32) -> Result<[Envelope; 2], TaskError> {
    tasks.exec(exec(id)).await?;
    let pid = tasks.start("ns", "c1", id).await?;
    let waiter = tokio::spawn({
        let (tasks, id) = (tasks.clone(), id.to_owned());
        async move { tasks.wait("ns", "c1", &id).await }
    });
    tokio::task::yield_now().await;
    let events = shim.execs.end("c1", id, status);
    let exit = waiter.await.expect("no panic")?;
    assert_eq!((exit.pid, exit.status), (pid, status));
    let phase = tasks.get("ns", "c1", id).await?.phase;
    assert!(matches!(phase, Phase::Stopped(exit) if exit.status == status), "{phase:?}");
    assert_eq!(tasks.delete_process("ns", "c1", id).await?.status, status);
    Ok(events)
}

#[tokio::test(flavor = "multi_thread")]
async fn late_events_of_a_deleted_exec_are_not_taken_for_the_next_ones() {
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let _shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    let late = through(&tasks, &behaviour, "e", 3).await.expect("first");
    tasks.exec(exec("e")).await.expect("the id is free");
    for event in late.clone() {
        tasks.forward(event).expect("forward");
    }
    let state = tasks.get("ns", "c1", "e").await.expect("get");
    assert_eq!((state.pid, state.phase), (0, Phase::Created));

    // a daemon that comes back, and learns from the shim that it has not started
    let second = stack.tasks();
    second.recover().await.expect("recover");
    assert_eq!(second.get("ns", "c1", "e").await.expect("get").phase, Phase::Created);
    for event in late.clone() {
        second.forward(event).expect("forward");
    }
    assert_eq!(second.get("ns", "c1", "e").await.expect("get").phase, Phase::Created);

    assert_eq!(tasks.start("ns", "c1", "e").await.expect("start"), 102);
    for event in late {
        tasks.forward(event).expect("forward");
    }
    let state = tasks.get("ns", "c1", "e").await.expect("get");
    assert_eq!((state.pid, state.phase), (102, Phase::Running));
    for event in behaviour.execs.end("c1", "e", 4) {
        tasks.forward(event).expect("forward");
    }
    // its own are believed at once
    let state = tasks.get("ns", "c1", "e").await.expect("get");
    assert!(matches!(state.phase, Phase::Stopped(exit) if exit.status == 4));
    assert_eq!(tasks.delete_process("ns", "c1", "e").await.expect("delete").status, 4);
    assert_eq!(second.wait("ns", "c1", "e").await.expect("wait").status, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_that_was_waited_for_can_be_deleted_however_late_the_events_are() {
    const CALLERS: u32 = 6;
    const ROUNDS: u32 = 200;
    let (stack, behaviour) = (Stack::new(), Behaviour::new());
    let tasks = stack.tasks();
    let _shim = stack.shim("c1", &behaviour).await;
    running(&tasks, "c1").await;
    let (sender, mut late) = tokio::sync::mpsc::unbounded_channel();
    let sending = tokio::spawn({
        let tasks = tasks.clone();
        async move {
            while let Some(events) = late.recv().await {
                for event in events {
                    tasks.forward(event).expect("forward");
                    tokio::time::sleep(Duration::from_micros(300)).await;
                }
            }
        }
    });
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (tasks, behaviour, sender) = (tasks.clone(), behaviour.clone(), sender.clone());
            tokio::spawn(async move {
                let id = format!("e{caller}");
                for round in 0..ROUNDS {
                    let status = round * CALLERS + caller;
                    let events = through(&tasks, &behaviour, &id, status).await;
                    let events = events.unwrap_or_else(|e| panic!("{id}, round {round}: {e}"));
                    sender.send(events).expect("awaited");
                }
            })
        })
        .collect();
    drop(sender);
    for caller in callers {
        caller.await.expect("every round");
    }
    sending.await.expect("no panic");
}
