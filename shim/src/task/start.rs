//! Start: of the init and of execs.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use wharf_containerd::containerd::events::{TaskExecStarted, TaskStart};
use wharf_containerd::containerd::task::v3::{StartRequest, StartResponse};
use wharf_kinds::Kind;

use super::Shim;
use super::announce::Happening;
use super::container::Container;
use super::launch::{Streams, stop_in_background};
use super::process::{Child, ExecPlan, Process, State};
use crate::error::TaskError;
use crate::reaper::{Adopted, Exit};

/// The status of an exec that never ran.
const NEVER_RAN: u32 = 255;

impl Shim {
    /// `Task.Start`.
    pub(super) fn start(self: &Arc<Self>, request: &StartRequest) -> Result<StartResponse, TaskError> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let pid = match &process.exec_id {
            None => self.start_init(&container)?,
            Some(exec_id) => self.start_exec(&container, &process, exec_id)?,
        };
        Ok(StartResponse { pid })
    }

    fn start_init(self: &Arc<Self>, container: &Arc<Container>) -> Result<u32, TaskError> {
        let _changing = container.changing();
        let init = &container.init;
        let child = {
            let mut inner = init.lock();
            if let (State::Added, Some(plan)) = (inner.state.clone(), inner.restore.take()) {
                inner.state = State::Launching;
                drop(inner);
                return self.restore_init(container, plan);
            }
            let State::Created(child) = inner.state.clone() else {
                return Err(inner.state.refuse("start", "process"));
            };
            inner.state = State::Starting(child.clone(), None);
            child
        };
        let started = container.runtime.start(&container.id);
        if started.is_ok() {
            self.events.publish(&TaskStart { container_id: container.id.clone(), pid: child.pid });
        }
        let mut inner = init.lock();
        let ended = match &inner.state {
            State::Starting(_, ended) => *ended,
            _ => None,
        };
        inner.state = match started {
            Ok(()) => State::Running(child.clone()),
            Err(_) => State::Created(child.clone()),
        };
        drop(inner);
        if let Some(exit) = ended {
            self.tell(Happening::Exited(Arc::clone(container), Arc::clone(init), exit));
        }
        started.map(|()| child.pid).map_err(|e| e.during("start"))
    }

    fn start_exec(
        self: &Arc<Self>,
        container: &Arc<Container>,
        process: &Arc<Process>,
        exec_id: &str,
    ) -> Result<u32, TaskError> {
        {
            let mut execs = container.execs();
            if execs.init_ended {
                let text = format!("container {} init process is not running", container.id);
                return Err(TaskError::new(Kind::FailedPrecondition, text));
            }
            let mut inner = process.lock();
            if !matches!(inner.state, State::Added) {
                return Err(inner.state.refuse("start", "process"));
            }
            inner.state = State::Launching;
            execs.running += 1;
        }
        let launched = self.launch_exec(container, process, exec_id);
        if launched.is_err() {
            let exit = Exit { pid: 0, status: NEVER_RAN, at: SystemTime::UNIX_EPOCH };
            process.stop(exit);
            self.io.abandoned(process.session);
            if let Some(logger) = process.lock().logger.take() {
                stop_in_background(logger);
            }
            self.tell(Happening::ExecFailed(Arc::clone(container)));
        }
        launched
    }

    fn launch_exec(
        self: &Arc<Self>,
        container: &Arc<Container>,
        process: &Arc<Process>,
        exec_id: &str,
    ) -> Result<u32, TaskError> {
        let Some(plan) = process.lock().plan.take() else {
            return Err(TaskError::new(Kind::FailedPrecondition, "the exec has no process to start"));
        };
        let ExecPlan { process: description, pipes, direct } = plan;
        let file = ProcessFile::write(container.bundle.join(format!("exec-{exec_id}.json")), &description)?;
        let expecting = self.reaper.expecting();
        let streams = Streams {
            bundle: &container.bundle,
            name: exec_id,
            stdio: &process.stdio,
            pipes,
            io_owner: container.io_owner,
        };
        let pid_file = container.bundle.join(format!("{exec_id}.pid"));
        let (console, pid) = self.launch(&streams, process.session, direct, &pid_file, |launch| {
            container.runtime.exec(&container.id, &file.0, launch).map_err(|e| e.during("exec"))
        })?;
        self.events.publish(&TaskExecStarted {
            container_id: container.id.clone(),
            exec_id: exec_id.to_owned(),
            pid,
        });
        let on_exit = self.on_exit_of(container, process);
        let mut inner = process.lock();
        inner.console = console;
        match self.reaper.adopt(&expecting, pid, on_exit) {
            Ok(Adopted::Watched(fd)) => inner.state = State::Running(Child { pid, fd: Arc::new(fd) }),
            Ok(Adopted::Ended(exit)) => {
                self.tell(Happening::Exited(Arc::clone(container), Arc::clone(process), exit));
            }
            Err(e) => {
                return Err(TaskError::failed(format_args!("exec process {pid} is not the runtime's: {e}")));
            }
        }
        Ok(pid)
    }
}

/// The exec's description, for as long as the runtime reads it.
struct ProcessFile(PathBuf);

impl ProcessFile {
    fn write(path: PathBuf, text: &[u8]) -> Result<ProcessFile, TaskError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text));
        written.map_err(|e| TaskError::failed(format_args!("exec process file {}: {e}", path.display())))?;
        Ok(ProcessFile(path))
    }
}

impl Drop for ProcessFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
