//! State, Pids, Stats, Connect, and the streams' small requests.

use prost_types::Any;
use wharf_containerd::containerd::runc::v1::ProcessDetails;
use wharf_containerd::containerd::task::v3::{
    CloseIoRequest, ConnectRequest, ConnectResponse, PidsRequest, PidsResponse, ResizePtyRequest,
    StateRequest, StateResponse, StatsRequest, StatsResponse,
};
use wharf_containerd::containerd::v1::types::ProcessInfo;
use wharf_kinds::Kind;

use super::Shim;
use super::container::Container;
use super::metrics;
use super::process::{State, exited_at};
use crate::error::TaskError;

impl Shim {
    /// `Task.State`.
    pub(super) fn state(&self, request: &StateRequest) -> Result<StateResponse, TaskError> {
        let container = self.settled_container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let state = process.state();
        let mut status = state.status();
        // an exec is frozen with its container
        if let (State::Running(_), State::Paused(_)) = (&state, container.init.state()) {
            status = wharf_containerd::containerd::v1::types::Status::Paused;
        }
        let exit = state.exit();
        Ok(StateResponse {
            id: process.exec_id.clone().unwrap_or_else(|| container.id.clone()),
            bundle: container.bundle.to_string_lossy().into_owned(),
            pid: state.pid(),
            status: status.into(),
            stdin: process.stdio.stdin.clone(),
            stdout: process.stdio.stdout.clone(),
            stderr: process.stdio.stderr.clone(),
            terminal: process.stdio.terminal,
            exit_status: exit.map_or(0, |e| e.status),
            exited_at: exit.and_then(|e| exited_at(&e)),
            exec_id: process.exec_id.clone().unwrap_or_default(),
        })
    }

    /// `Task.Pids`.
    pub(super) fn pids(&self, request: &PidsRequest) -> Result<PidsResponse, TaskError> {
        let container = self.container(&request.id)?;
        let Some(cgroup) = container.cgroup.get() else {
            return Err(TaskError::new(Kind::NotFound, "cgroup does not exist"));
        };
        let pids = cgroup.procs().map_err(|e| TaskError::failed(format_args!("processes: {e}")))?;
        let execs = exec_pids(&container);
        let processes = pids.into_iter().map(|pid| {
            let exec = execs.iter().find(|(p, _)| *p == pid as u32);
            let info = exec.map(|(_, exec_id)| {
                let details = ProcessDetails { exec_id: exec_id.clone() };
                wharf_containerd::to_any("containerd.runc.v1.ProcessDetails", &details)
            });
            ProcessInfo { pid: pid as u32, info }
        });
        Ok(PidsResponse { processes: processes.collect() })
    }

    /// `Task.Stats`.
    pub(super) fn stats(&self, request: &StatsRequest) -> Result<StatsResponse, TaskError> {
        let container = self.container(&request.id)?;
        let Some(cgroup) = container.cgroup.get().filter(|c| c.exists()) else {
            return Err(TaskError::new(Kind::NotFound, "cgroup does not exist"));
        };
        let stats = cgroup.stats().map_err(|e| TaskError::failed(format_args!("statistics: {e}")))?;
        let stats: Any = metrics::to_any(&stats);
        Ok(StatsResponse { stats: Some(stats) })
    }

    /// `Task.Connect`.
    pub(super) fn connect(&self, request: &ConnectRequest) -> ConnectResponse {
        let task_pid = self.container(&request.id).map_or(0, |c| c.init.state().pid());
        ConnectResponse { shim_pid: std::process::id(), task_pid, version: String::new() }
    }

    /// `Task.ResizePty`.
    pub(super) fn resize(&self, request: &ResizePtyRequest) -> Result<(), TaskError> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        let inner = process.lock();
        if inner.state.exit().is_some() {
            return Err(inner.state.refuse("resize", "container"));
        }
        let size = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        match &inner.console {
            // as containerd: without a terminal there is nothing to do
            None => Ok(()),
            Some(console) => console
                .resize(size(request.width), size(request.height))
                .map_err(|e| TaskError::failed(format_args!("resize: {e}"))),
        }
    }

    /// `Task.CloseIO`.
    pub(super) fn close_io(&self, request: &CloseIoRequest) -> Result<(), TaskError> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            self.io.close_stdin(process.session);
        }
        Ok(())
    }
}

fn exec_pids(container: &Container) -> Vec<(u32, String)> {
    let execs = container.execs();
    let live = execs.known.iter().filter_map(|(id, exec)| Some((id, exec.as_ref()?)));
    live.filter_map(|(id, exec)| Some((exec.state().child()?.pid, id.clone()))).collect()
}
