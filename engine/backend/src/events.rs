//! The daemon's event stream, as far as the engine decides on it.

use std::time::SystemTime;

use prost::Message as _;
use wharf_containerd::containerd::events as payload;
use wharf_containerd::containerd::services::events::v1 as wire;
use wharf_containerd::containerd::types::Envelope;
use wire::events_client::EventsClient;

use crate::convert;
use crate::error::BackendError;
use crate::link::{Backend, Link, client};
use crate::tasks::Exit;

/// An event of this backend's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleEvent {
    pub at: SystemTime,
    pub event: TaskEvent,
}

/// What happened to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEvent {
    /// `process` is the container's id for its first process, else the exec's id.
    Exit {
        container_id: String,
        process: String,
        pid: u32,
        exit: Exit,
    },
    Oom {
        container_id: String,
    },
    Paused {
        container_id: String,
    },
    Resumed {
        container_id: String,
    },
    /// An event the engine has no use for.
    Other {
        topic: String,
    },
}

/// The subscription; it ends when the connection breaks, and nothing is replayed: list again after subscribing anew.
pub struct EventStream {
    namespace: String,
    stream: tonic::Streaming<Envelope>,
}

impl Backend {
    /// Subscribes to task events of this backend's namespace, from now on.
    pub async fn events(&self) -> Result<EventStream, BackendError> {
        let namespace = self.config().namespace.clone();
        let filter = format!("namespace=={namespace},topic~=\"^/tasks/\"");
        let stream = self
            .read("subscribe to events", "", |link| {
                let request = wire::SubscribeRequest { filters: vec![filter.clone()] };
                async move { client!(EventsClient<Link>, link).subscribe(request).await }
            })
            .await?;
        Ok(EventStream { namespace, stream })
    }
}

impl EventStream {
    /// The next event; None when the daemon ended the stream.
    pub async fn next(&mut self) -> Result<Option<LifecycleEvent>, BackendError> {
        loop {
            let message = self.stream.message().await;
            let Some(envelope) = message.map_err(|s| BackendError::from_status("receive events", "", &s))?
            else {
                return Ok(None);
            };
            if envelope.namespace == self.namespace {
                return Ok(Some(decode(envelope)));
            }
        }
    }
}

fn decode(envelope: Envelope) -> LifecycleEvent {
    let at = convert::time(envelope.timestamp);
    let topic = envelope.topic;
    let value = envelope.event.map(|any| any.value).unwrap_or_default();
    let known = match topic.as_str() {
        "/tasks/exit" => payload::TaskExit::decode(value.as_slice()).ok().map(|e| TaskEvent::Exit {
            container_id: e.container_id,
            process: e.id,
            pid: e.pid,
            exit: Exit { status: e.exit_status, at: convert::exact_time(e.exited_at) },
        }),
        "/tasks/oom" => payload::TaskOom::decode(value.as_slice())
            .ok()
            .map(|e| TaskEvent::Oom { container_id: e.container_id }),
        "/tasks/paused" => payload::TaskPaused::decode(value.as_slice())
            .ok()
            .map(|e| TaskEvent::Paused { container_id: e.container_id }),
        "/tasks/resumed" => payload::TaskResumed::decode(value.as_slice())
            .ok()
            .map(|e| TaskEvent::Resumed { container_id: e.container_id }),
        _ => None,
    };
    LifecycleEvent { at, event: known.unwrap_or(TaskEvent::Other { topic }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(topic: &str, value: Vec<u8>) -> Envelope {
        let event = Some(prost_types::Any { type_url: String::new(), value });
        Envelope { timestamp: None, namespace: "n".to_owned(), topic: topic.to_owned(), event }
    }

    #[test]
    fn exits_carry_status_and_time() {
        let exit = payload::TaskExit {
            container_id: "c".to_owned(),
            id: "x".to_owned(),
            pid: 9,
            exit_status: 137,
            exited_at: Some(prost_types::Timestamp { seconds: 10, nanos: 1 }),
        };
        let event = decode(envelope("/tasks/exit", exit.encode_to_vec())).event;
        let TaskEvent::Exit { container_id, process, pid, exit } = event else {
            panic!("not an exit: {event:?}")
        };
        assert_eq!((container_id.as_str(), process.as_str(), pid, exit.status), ("c", "x", 9, 137));
        assert_eq!(exit.at, Some(SystemTime::UNIX_EPOCH + std::time::Duration::new(10, 1)));
    }

    #[test]
    fn damaged_events_are_not_exits() {
        let event = decode(envelope("/tasks/exit", vec![0xff, 0xff])).event;
        assert_eq!(event, TaskEvent::Other { topic: "/tasks/exit".to_owned() });
    }
}
