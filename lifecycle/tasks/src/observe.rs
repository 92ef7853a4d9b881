//! Events that shims send: they keep the model right before anyone hears of them.

use lifecycle_events::{Envelope, PublishError};
use prost::Message;
use wharf_containerd::containerd::events::{TaskExecStarted, TaskExit, TaskPaused, TaskResumed, TaskStart};

use crate::process::Exit;
use crate::tasks::Tasks;

impl Tasks {
    /// Takes a shim's event: the model first, then everyone who listens. An exit of init that was announced
    /// already is not passed on again.
    pub fn forward(&self, envelope: Envelope) -> Result<(), PublishError> {
        if self.observe(&envelope) { self.shared.exchange.forward(envelope) } else { Ok(()) }
    }

    /// Updates the model; false if the event is a repetition.
    fn observe(&self, envelope: &Envelope) -> bool {
        let (namespace, event) = (&envelope.namespace, envelope.event.value.as_slice());
        match envelope.topic.as_str() {
            "/tasks/exit" => match TaskExit::decode(event) {
                Ok(exit) => self.observe_exit(namespace, &exit),
                Err(_) => true,
            },
            "/tasks/start" => {
                if let Ok(start) = TaskStart::decode(event)
                    && let Some(task) = self.find(namespace, &start.container_id)
                {
                    let mut processes = task.processes();
                    if processes.init.is_meant(start.pid, Some(envelope.timestamp)) {
                        processes.init.started(start.pid);
                    }
                }
                true
            }
            "/tasks/exec-started" => {
                if let Ok(start) = TaskExecStarted::decode(event)
                    && let Some(task) = self.find(namespace, &start.container_id)
                    && let Some(exec) = task.processes().execs.get_mut(&start.exec_id)
                    && exec.is_meant(start.pid, Some(envelope.timestamp))
                {
                    exec.started(start.pid);
                }
                true
            }
            "/tasks/paused" => {
                if let Ok(paused) = TaskPaused::decode(event)
                    && let Some(task) = self.find(namespace, &paused.container_id)
                {
                    task.processes().init.paused(true);
                }
                true
            }
            "/tasks/resumed" => {
                if let Ok(resumed) = TaskResumed::decode(event)
                    && let Some(task) = self.find(namespace, &resumed.container_id)
                {
                    task.processes().init.paused(false);
                }
                true
            }
            _ => true,
        }
    }

    fn observe_exit(&self, namespace: &str, event: &TaskExit) -> bool {
        let Some(task) = self.find_even_leaving(namespace, &event.container_id) else { return true };
        let exit = Exit { pid: event.pid, status: event.exit_status, at: event.exited_at };
        let mut processes = task.processes();
        if event.id.is_empty() || event.id == event.container_id {
            if !processes.init.is_meant(event.pid, event.exited_at) {
                return true;
            }
            processes.init.exited(exit);
            drop(processes);
            return task.claim_announcement();
        }
        if let Some(exec) = processes.execs.get_mut(&event.id)
            && exec.is_meant(event.pid, event.exited_at)
        {
            exec.exited(exit);
        }
        true
    }
}
