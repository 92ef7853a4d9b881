//! What clients do with a task that exists.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost_types::Any;
use wharf_containerd::containerd::task::v3 as wire;
use wharf_containerd::containerd::types::RuntimeInfo;
use wharf_containerd::containerd::v1::types::ProcessInfo;
use wharf_failpoints::{Point, hit};
use wharf_vocab::{Filter, Identifier};

use crate::client::CallError;
use crate::error::TaskError;
use crate::limits;
use crate::process::{Exit, Outcome, Phase, Process, ProcessState, Stdio};
use crate::task::Task;
use crate::tasks::Tasks;

/// A process to add to a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecTask {
    pub namespace: String,
    pub id: String,
    pub exec: String,
    pub stdio: Stdio,
    /// The OCI process as JSON.
    pub spec: Option<Any>,
}

/// A container's metrics as its shim reports them.
#[derive(Debug, Clone)]
pub struct Metric {
    pub id: String,
    pub at: SystemTime,
    pub data: Option<Any>,
}

impl Tasks {
    /// Starts init, or an exec if `exec` is not empty; its pid.
    pub async fn start(&self, namespace: &str, id: &str, exec: &str) -> Result<u32, TaskError> {
        let task = self.with_process(namespace, id, exec).await?;
        let request = wire::StartRequest { id: id.into(), exec_id: exec.into() };
        let outcome = task.processes().get(exec).map(Process::outcome);
        let exec = exec.to_owned();
        // the shim starts it even if the caller loses patience, so the answer must be taken
        let started = tokio::spawn(async move {
            let answer: wire::StartResponse = task.call("Start", &request, limits::CREATE).await?;
            hit(Point::TaskStart);
            // one that was short may be deleted already, and its id another's
            if let Some(process) = task.processes().get_mut(&exec)
                && outcome.is_some_and(|outcome| process.tells(&outcome))
            {
                process.started(answer.pid);
            }
            Ok(answer.pid)
        });
        started.await.unwrap_or(Err(TaskError::Interrupted))
    }

    /// Registers an exec; [`start`](Tasks::start) runs it.
    pub async fn exec(&self, request: ExecTask) -> Result<(), TaskError> {
        if request.exec.is_empty() {
            return Err(TaskError::NoExecId);
        }
        let task = self.task(&request.namespace, &request.id)?;
        Identifier::parse(&request.exec)
            .map_err(|source| TaskError::ExecId { id: request.exec.clone(), source })?;
        let stdio = request.stdio;
        let call = wire::ExecProcessRequest {
            id: request.id,
            exec_id: request.exec.clone(),
            terminal: stdio.terminal,
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            spec: request.spec,
        };
        let asked = SystemTime::now();
        task.call::<_, ()>("Exec", &call, limits::QUICK).await?;
        let process = Process::new(0, Phase::Created, stdio).not_before(asked);
        task.processes().execs.insert(request.exec.clone(), process);
        task.watch(&request.exec);
        Ok(())
    }

    /// Removes an exec that has ended and returns how.
    pub async fn delete_process(&self, namespace: &str, id: &str, exec: &str) -> Result<Exit, TaskError> {
        let task = self.with_process(namespace, id, exec).await?;
        let request = wire::DeleteRequest { id: id.into(), exec_id: exec.into() };
        let outcome = task.processes().get(exec).map(Process::outcome);
        let answer: Result<wire::DeleteResponse, _> = task.call("Delete", &request, limits::DELETE).await;
        // another may have made an exec of the same id since the shim has deleted this one
        let remove = || {
            let mut processes = task.processes();
            let same = outcome.as_ref().zip(processes.execs.get(exec)).is_some_and(|(o, p)| p.tells(o));
            if same { processes.execs.remove(exec) } else { None }
        };
        if answer.as_ref().is_err_and(CallError::is_not_found) {
            // deleted by an earlier request whose answer was lost
            remove();
        }
        let answer = answer?;
        let exit = Exit { pid: answer.pid, status: answer.exit_status, at: answer.exited_at };
        if let Some(mut process) = remove() {
            // whoever still waits learns it
            process.exited(exit);
        }
        Ok(exit)
    }

    /// The state of init or of an exec. Init's is answered from memory, once it is created.
    pub async fn get(&self, namespace: &str, id: &str, exec: &str) -> Result<ProcessState, TaskError> {
        self.settled(namespace, id).await;
        let task = self.with_process(namespace, id, exec).await?;
        task.known(exec).ok_or_else(|| TaskError::NoTask(id.into()))
    }

    /// The init processes of a namespace's tasks, from memory. Those being created are there too, as unknown: a
    /// client that starts just now must not take them for absent.
    pub fn list(&self, namespace: &str) -> Vec<ProcessState> {
        let creating = self.being_created(namespace).into_iter();
        let mut all: Vec<_> = creating
            .map(|id| ProcessState { id, pid: 0, phase: Phase::Unknown, stdio: Stdio::default() })
            .collect();
        let tasks = self.of_namespace(namespace);
        all.extend(tasks.iter().filter_map(|task| task.known("")));
        // a task may have become one between the two looks
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.dedup_by(|later, kept| {
            let twice = later.id == kept.id;
            if twice {
                std::mem::swap(later, kept);
            }
            twice
        });
        all
    }

    /// Sends a signal to init, to all processes, or to an exec.
    pub async fn kill(
        &self,
        namespace: &str,
        id: &str,
        exec: &str,
        signal: u32,
        all: bool,
    ) -> Result<(), TaskError> {
        let task = self.with_process(namespace, id, exec).await?;
        let request = wire::KillRequest { id: id.into(), exec_id: exec.into(), signal, all };
        Ok(task.call("Kill", &request, limits::QUICK).await?)
    }

    /// Sets the size of a terminal, in characters.
    pub async fn resize(
        &self,
        namespace: &str,
        id: &str,
        exec: &str,
        width: u32,
        height: u32,
    ) -> Result<(), TaskError> {
        let task = self.with_process(namespace, id, exec).await?;
        let request = wire::ResizePtyRequest { id: id.into(), exec_id: exec.into(), width, height };
        Ok(task.call("ResizePty", &request, limits::QUICK).await?)
    }

    /// Closes the process's stdin, if asked to.
    pub async fn close_io(
        &self,
        namespace: &str,
        id: &str,
        exec: &str,
        stdin: bool,
    ) -> Result<(), TaskError> {
        let task = self.with_process(namespace, id, exec).await?;
        if !stdin {
            return Ok(());
        }
        let request = wire::CloseIoRequest { id: id.into(), exec_id: exec.into(), stdin: true };
        Ok(task.call("CloseIO", &request, limits::QUICK).await?)
    }

    pub async fn pause(&self, namespace: &str, id: &str) -> Result<(), TaskError> {
        let task = self.task(namespace, id)?;
        let request = wire::PauseRequest { id: id.into() };
        task.call::<_, ()>("Pause", &request, limits::CHANGE).await?;
        task.processes().init.paused(true);
        Ok(())
    }

    pub async fn resume(&self, namespace: &str, id: &str) -> Result<(), TaskError> {
        let task = self.task(namespace, id)?;
        let request = wire::ResumeRequest { id: id.into() };
        task.call::<_, ()>("Resume", &request, limits::CHANGE).await?;
        task.processes().init.paused(false);
        Ok(())
    }

    /// The processes in the container, execs named by what the shim says of them.
    pub async fn pids(&self, namespace: &str, id: &str) -> Result<Vec<ProcessInfo>, TaskError> {
        let task = self.task(namespace, id)?;
        let request = wire::PidsRequest { id: id.into() };
        let answer: wire::PidsResponse = task.call("Pids", &request, limits::QUICK).await?;
        Ok(answer.processes)
    }

    /// Has the shim write a checkpoint to a folder.
    pub async fn checkpoint(
        &self,
        namespace: &str,
        id: &str,
        path: &str,
        options: Option<Any>,
    ) -> Result<(), TaskError> {
        let task = self.task(namespace, id)?;
        let request = wire::CheckpointTaskRequest { id: id.into(), path: path.into(), options };
        Ok(task.call("Checkpoint", &request, limits::CHECKPOINT).await?)
    }

    /// Changes a container's resources (OCI `LinuxResources` as JSON).
    pub async fn update(
        &self,
        namespace: &str,
        id: &str,
        resources: Option<Any>,
        annotations: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), TaskError> {
        let task = self.task(namespace, id)?;
        let annotations = annotations.into_iter().collect();
        let request = wire::UpdateTaskRequest { id: id.into(), resources, annotations };
        Ok(task.call("Update", &request, limits::CHANGE).await?)
    }

    /// The metrics of the tasks that match (`id`, `namespace`), asked all at once; a shim that does not answer
    /// in time is left out.
    pub async fn metrics(&self, namespace: &str, filter: &Filter) -> Vec<Metric> {
        let asked: FuturesUnordered<_> = self
            .of_namespace(namespace)
            .into_iter()
            .filter(|task| {
                filter.matches(|path| match path {
                    ["id"] => Some(task.id().into()),
                    ["namespace"] => Some(namespace.into()),
                    _ => None,
                })
            })
            .map(async |task| {
                let request = wire::StatsRequest { id: task.id().into() };
                let at = SystemTime::now();
                match task.call::<_, wire::StatsResponse>("Stats", &request, limits::STATS).await {
                    Ok(answer) => Some(Metric { id: task.id().into(), at, data: answer.stats }),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => {
                        tracing::warn!(id = task.id(), namespace, %error, "failed to collect metrics");
                        None
                    }
                }
            })
            .collect();
        let mut metrics: Vec<_> = asked.filter_map(async |metric| metric).collect().await;
        metrics.sort_by(|a, b| a.id.cmp(&b.id));
        metrics
    }

    /// Waits until a process ends. Answers at once for one that has.
    pub async fn wait(&self, namespace: &str, id: &str, exec: &str) -> Result<Exit, TaskError> {
        let task = self.with_process(namespace, id, exec).await?;
        let Some(outcome) = task.processes().get(exec).map(Process::outcome) else {
            return Err(TaskError::Lost(id.into()));
        };
        drop(task);
        match outcome.settled().await {
            Outcome::Exited(exit) => Ok(exit),
            Outcome::Pending | Outcome::Lost => Err(TaskError::Lost(id.into())),
        }
    }

    /// What a runtime says about itself.
    pub async fn runtime_info(&self, runtime: &str, options: Option<&Any>) -> Result<RuntimeInfo, TaskError> {
        let program = self.shared.config.runtimes.resolve(runtime).map_err(TaskError::InfoRuntime)?;
        self.shared.launcher.info(&program, options).await.map_err(TaskError::Info)
    }

    /// The task, with the exec known: one that was made before this daemon started is asked for.
    async fn with_process(&self, namespace: &str, id: &str, exec: &str) -> Result<Arc<Task>, TaskError> {
        let task = self.task(namespace, id)?;
        let known = task.processes().get(exec).is_some();
        if !known {
            task.learn(exec).await?;
        }
        Ok(task)
    }
}
