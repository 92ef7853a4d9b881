//! The order of what is told of tasks.

use std::collections::HashMap;

use prost::Message;
use tokio::time::timeout;
use wharf_containerd::containerd::events::{TaskCreate, TaskDelete, TaskExit, TaskOom, TaskStart};
use wharf_containerd::containerd::services::events::v1::SubscribeRequest;
use wharf_containerd::containerd::services::events::v1::events_client::EventsClient;
use wharf_containerd::containerd::types::Envelope;

use crate::daemon::{Daemon, SOON, within};

const CALLERS: usize = 8;
const EACH: usize = 25;

/// The container that an event is about.
fn container(envelope: &Envelope) -> String {
    let bytes = envelope.event.as_ref().expect("an event").value.as_slice();
    let decoded = match envelope.topic.as_str() {
        "/tasks/create" => TaskCreate::decode(bytes).map(|e| e.container_id),
        "/tasks/start" => TaskStart::decode(bytes).map(|e| e.container_id),
        "/tasks/exit" => TaskExit::decode(bytes).map(|e| e.container_id),
        "/tasks/delete" => TaskDelete::decode(bytes).map(|e| e.container_id),
        topic => panic!("{topic} was not to happen"),
    };
    decoded.expect("as its topic says")
}

#[tokio::test(flavor = "multi_thread")]
async fn root_events_of_many_short_tasks_come_once_each_and_in_order() {
    let daemon = Daemon::start().await;
    let filters = vec!["topic~=^/tasks/".to_owned()];
    let mut client = EventsClient::new(daemon.channel());
    let mut heard = client.subscribe(within(SubscribeRequest { filters })).await.expect("heard").into_inner();
    let listener = tokio::spawn(async move {
        let mut of: HashMap<String, Vec<String>> = HashMap::new();
        let mut deleted = 0;
        while deleted < CALLERS * EACH {
            let next = timeout(SOON, heard.message()).await;
            let envelope = next.expect("in time").expect("a stream").expect("an event");
            deleted += usize::from(envelope.topic == "/tasks/delete");
            of.entry(container(&envelope)).or_default().push(envelope.topic);
        }
        of
    });
    let caller = async |caller: usize| {
        for n in 0..EACH {
            let id = format!("c{caller}-{n}");
            daemon.run(&id, &["true"]).await;
            assert_eq!(daemon.wait(&id).await, 0);
            assert_eq!(daemon.delete(&id).await.expect("it is deleted"), 0);
        }
    };
    let [c0, c1, c2, c3, c4, c5, c6, c7] = [0, 1, 2, 3, 4, 5, 6, 7].map(caller);
    tokio::join!(c0, c1, c2, c3, c4, c5, c6, c7);
    let of = listener.await.expect("no panic");
    assert_eq!(of.len(), CALLERS * EACH);
    for (id, topics) in of {
        assert_eq!(topics, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"], "{id}");
    }
    daemon.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_container_that_ran_out_of_memory_is_told_of() {
    let daemon = Daemon::start().await;
    let filters = vec![r#"topic=="/tasks/oom""#.to_owned()];
    let mut client = EventsClient::new(daemon.channel());
    let mut heard = client.subscribe(within(SubscribeRequest { filters })).await.expect("heard").into_inner();
    let mut spec = daemon.spec("greedy", &["sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"]);
    spec["linux"]["resources"] = serde_json::json!({"memory": {"limit": 16 << 20}});
    daemon.record_as("greedy", &spec, "", None).await;
    daemon.launch("greedy").await.expect("it runs");
    let told = timeout(SOON, heard.message()).await.expect("in time").expect("a stream").expect("an event");
    let told = TaskOom::decode(told.event.expect("an event").value.as_slice()).expect("as its topic says");
    assert_eq!(told.container_id, "greedy");
    assert_eq!(daemon.wait("greedy").await, 137);
    assert_eq!(daemon.delete("greedy").await.expect("it is deleted"), 137);
    daemon.assert_nothing_left();
}
