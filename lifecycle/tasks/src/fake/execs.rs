//! The fake shim's execs, whose ends the test brings about and whose events it sends on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use lifecycle_events::Envelope;
use prost::Message;
use prost_types::Timestamp;
use tokio::sync::watch;
use ttrpc::proto::Code;
use wharf_containerd::containerd::events::{TaskExecStarted, TaskExit};
use wharf_containerd::containerd::task::v3 as wire;
use wharf_containerd::containerd::v1::types::Status;
use wharf_containerd::to_any;

type Answer = Result<Vec<u8>, (Code, &'static str)>;
type End = (u32, Timestamp);

struct Exec {
    pid: u32,
    end: watch::Sender<Option<End>>,
}

/// By id. Their pids begin with 101.
#[derive(Clone, Default)]
pub(crate) struct Execs(Arc<Mutex<(u32, HashMap<String, Exec>)>>);

impl Execs {
    fn lock(&self) -> MutexGuard<'_, (u32, HashMap<String, Exec>)> {
        self.0.lock().expect("lock")
    }

    /// Ends an exec that runs. Returns the events of its life, as a shim sends them: later than it answers.
    pub(crate) fn end(&self, container: &str, id: &str, status: u32) -> [Envelope; 2] {
        let held = self.lock();
        let exec = &held.1[id];
        let at = Timestamp::from(SystemTime::now());
        exec.end.send_replace(Some((status, at)));
        let start = TaskExecStarted { container_id: container.into(), exec_id: id.into(), pid: exec.pid };
        let exit = TaskExit {
            container_id: container.into(),
            id: id.into(),
            pid: exec.pid,
            exit_status: status,
            exited_at: Some(at),
        };
        let envelope = |topic: &str, event| Envelope {
            timestamp: at,
            namespace: "ns".into(),
            topic: topic.into(),
            event,
        };
        [
            envelope("/tasks/exec-started", to_any("containerd.events.TaskExecStarted", &start)),
            envelope("/tasks/exit", to_any("containerd.events.TaskExit", &exit)),
        ]
    }

    /// What the method answers, if it is about an exec that is here.
    pub(super) async fn answer(&self, method: &str, payload: &[u8]) -> Option<Answer> {
        if method == "Exec" {
            let id = wire::ExecProcessRequest::decode(payload).expect("request").exec_id;
            let mut held = self.lock();
            if held.1.contains_key(&id) {
                return Some(Err((Code::ALREADY_EXISTS, "id")));
            }
            held.1.insert(id, Exec { pid: 0, end: watch::Sender::new(None) });
            return Some(Ok(Vec::new()));
        }
        // all of these have the container's id first and the exec's second
        let id = match method {
            "Start" | "State" | "Wait" | "Delete" => {
                wire::StartRequest::decode(payload).expect("request").exec_id
            }
            _ => return None,
        };
        let ends = self.lock().1.get(&id)?.end.clone();
        if method == "Wait" {
            let mut ends = ends.subscribe();
            let (exit_status, at) = ends.wait_for(Option::is_some).await.ok()?.expect("an end");
            return Some(Ok(wire::WaitResponse { exit_status, exited_at: Some(at) }.encode_to_vec()));
        }
        let end = *ends.borrow();
        let mut held = self.lock();
        let (last, execs) = &mut *held;
        let exec = execs.get_mut(&id)?;
        Some(match (method, end) {
            ("Start", _) => {
                *last += 1;
                exec.pid = 100 + *last;
                Ok(wire::StartResponse { pid: exec.pid }.encode_to_vec())
            }
            ("State", _) => {
                let status = match (end, exec.pid) {
                    (Some(_), _) => Status::Stopped,
                    (None, 0) => Status::Created,
                    _ => Status::Running,
                };
                let exit_status = end.map_or(0, |end| end.0);
                let exited_at = end.map(|end| end.1);
                let (pid, status) = (exec.pid, status.into());
                Ok(wire::StateResponse { pid, status, exit_status, exited_at, ..Default::default() }
                    .encode_to_vec())
            }
            (_, Some((exit_status, at))) => {
                let pid = exec.pid;
                execs.remove(&id);
                Ok(wire::DeleteResponse { pid, exit_status, exited_at: Some(at) }.encode_to_vec())
            }
            (_, None) => Err((Code::FAILED_PRECONDITION, "cannot delete a running process")),
        })
    }
}
