//! Exec: a further process is described; its streams are opened, so that a client can be attached before
//! it starts.

use std::sync::Arc;

use wharf_containerd::containerd::events::TaskExecAdded;
use wharf_containerd::containerd::task::v3::ExecProcessRequest;
use wharf_kinds::Kind;

use super::Shim;
use super::container::Container;
use super::process::{ExecPlan, Process, State, Stdio};
use crate::error::TaskError;
use crate::io::Plan;
use crate::runtime::is_plain_name;

impl Shim {
    /// `Task.Exec`.
    pub(super) fn exec(&self, request: ExecProcessRequest) -> Result<(), TaskError> {
        let invalid = |text: String| TaskError::new(Kind::InvalidArgument, text);
        let container = self.container(&request.id)?;
        let exec_id = request.exec_id;
        if !is_plain_name(&exec_id) {
            return Err(invalid(format!("exec id {exec_id:?} must be letters, digits, '_', '.', '-'")));
        }
        let process = with_terminal(request.spec.as_ref().map_or(&[], |s| &s.value), request.terminal)
            .map_err(|e| invalid(format!("exec process: {e}")))?;
        let plan = Plan::of_process(request.terminal, &request.stdin, &request.stdout, &request.stderr);
        let plan = plan.map_err(|e| invalid(e.to_string()))?;
        match container.init.state() {
            State::Created(_) | State::Starting(..) | State::Running(_) => {}
            state => {
                let text = format!("cannot exec in a {} state", state.word());
                return Err(TaskError::new(Kind::FailedPrecondition, text));
            }
        }
        {
            let mut execs = container.execs();
            if execs.known.contains_key(&exec_id) || exec_id == container.id {
                return Err(TaskError::new(Kind::AlreadyExists, format_args!("id {exec_id}")));
            }
            execs.known.insert(exec_id.clone(), None);
        }
        let stdio = Stdio {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        self.add_exec(&container, &exec_id, stdio, &plan, process).inspect_err(|_| {
            container.execs().known.remove(&exec_id);
        })?;
        self.events.publish(&TaskExecAdded { container_id: container.id.clone(), exec_id });
        Ok(())
    }

    fn add_exec(
        &self,
        container: &Container,
        exec_id: &str,
        stdio: Stdio,
        plan: &Plan,
        description: Vec<u8>,
    ) -> Result<(), TaskError> {
        let opened = self.open_streams(plan, &stdio, exec_id)?;
        let session = self.io.add(opened.parts);
        let process = Process::new(Some(exec_id.to_owned()), stdio, session, State::Added);
        {
            let mut inner = process.lock();
            inner.logger = opened.logger;
            inner.plan = Some(ExecPlan { process: description, pipes: opened.pipes, direct: opened.direct });
        }
        container.execs().known.insert(exec_id.to_owned(), Some(Arc::new(process)));
        Ok(())
    }
}

/// The OCI process with `terminal` as the request says, which is what counts.
fn with_terminal(process: &[u8], terminal: bool) -> serde_json::Result<Vec<u8>> {
    let mut process: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(process)?;
    process.insert("terminal".to_owned(), terminal.into());
    serde_json::to_vec(&process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_terminal_is_the_one_that_counts() {
        let out = with_terminal(br#"{"terminal":false,"args":["sh"]}"#, true).unwrap();
        let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(out, serde_json::json!({"terminal":true,"args":["sh"]}));
        assert!(with_terminal(b"[]", true).is_err());
    }
}
