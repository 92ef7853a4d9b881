//! Tasks: the running side of containers, and the processes executed in them.

use std::time::SystemTime;

use wharf_containerd::containerd::services::tasks::v1 as wire;
use wharf_containerd::containerd::v1::types as process;
use wharf_containerd::type_url;
use wire::tasks_client::TasksClient;

use crate::containers::RuntimeOptions;
use crate::convert;
use crate::error::BackendError;
use crate::link::{Backend, Link, client};
use crate::types::Mount;

/// What a task is created from; the container's record gives the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    pub container_id: String,
    /// The root filesystem's mounts.
    pub rootfs: Vec<Mount>,
    /// Stdio addresses: FIFO paths, or what the shim understands. Empty is /dev/null.
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
    pub options: RuntimeOptions,
}

/// A process to be executed in a running task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    pub container_id: String,
    pub exec_id: String,
    /// The OCI process, JSON.
    pub process: Vec<u8>,
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 0 to 255; 128 + n for signal n.
    pub status: u32,
    /// None if the daemon does not know.
    pub at: Option<SystemTime>,
}

/// Where a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessStatus {
    /// The shim did not say; it may be gone.
    Unknown,
    Created,
    Running,
    Pausing,
    Paused,
    Stopped(Exit),
}

/// A task's first process, or an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    pub container_id: String,
    /// Pid in the host's namespace; 0 before start.
    pub pid: u32,
    pub status: ProcessStatus,
}

impl Backend {
    /// Creates the task: the shim starts, mounts the rootfs and has the runtime create the container. Returns the
    /// pid of the process that waits to be started.
    pub async fn task_create(&self, spec: &TaskSpec) -> Result<u32, BackendError> {
        let request = wire::CreateTaskRequest {
            container_id: spec.container_id.clone(),
            rootfs: convert::wire_mounts(&spec.rootfs),
            stdin: spec.stdin.clone(),
            stdout: spec.stdout.clone(),
            stderr: spec.stderr.clone(),
            terminal: spec.terminal,
            options: Some(spec.options.to_any()),
            ..Default::default()
        };
        let answer = self
            .change("create task", &spec.container_id, None, |link| async move {
                client!(TasksClient<Link>, link).create(request).await
            })
            .await?;
        Ok(answer.pid)
    }

    /// Starts the task (`exec_id` empty) or an exec; returns its pid.
    pub async fn task_start(&self, container_id: &str, exec_id: &str) -> Result<u32, BackendError> {
        let request =
            wire::StartRequest { container_id: container_id.to_owned(), exec_id: exec_id.to_owned() };
        let answer = self
            .change("start task", container_id, None, |link| async move {
                client!(TasksClient<Link>, link).start(request).await
            })
            .await?;
        Ok(answer.pid)
    }

    /// Deletes a stopped task and its shim; returns how it ended.
    pub async fn task_delete(&self, container_id: &str) -> Result<Exit, BackendError> {
        let request = wire::DeleteTaskRequest { container_id: container_id.to_owned() };
        let answer = self
            .change("delete task", container_id, None, |link| async move {
                client!(TasksClient<Link>, link).delete(request).await
            })
            .await?;
        Ok(Exit { status: answer.exit_status, at: convert::exact_time(answer.exited_at) })
    }

    /// Deletes a stopped exec; returns how it ended.
    pub async fn exec_delete(&self, container_id: &str, exec_id: &str) -> Result<Exit, BackendError> {
        let request =
            wire::DeleteProcessRequest { container_id: container_id.to_owned(), exec_id: exec_id.to_owned() };
        let answer = self
            .change("delete exec", exec_id, None, |link| async move {
                client!(TasksClient<Link>, link).delete_process(request).await
            })
            .await?;
        Ok(Exit { status: answer.exit_status, at: convert::exact_time(answer.exited_at) })
    }

    /// The state of a task's first process, or of an exec.
    pub async fn task_get(&self, container_id: &str, exec_id: &str) -> Result<ProcessInfo, BackendError> {
        let answer = self
            .read("get task", container_id, |link| async move {
                let request =
                    wire::GetRequest { container_id: container_id.to_owned(), exec_id: exec_id.to_owned() };
                client!(TasksClient<Link>, link).get(request).await
            })
            .await?;
        Ok(from_wire(answer.process.unwrap_or_default()))
    }

    /// Every task of the namespace.
    pub async fn task_list(&self) -> Result<Vec<ProcessInfo>, BackendError> {
        let answer = self
            .read("list tasks", "", |link| async move {
                client!(TasksClient<Link>, link).list(wire::ListTasksRequest::default()).await
            })
            .await?;
        Ok(answer.tasks.into_iter().map(from_wire).collect())
    }

    /// Sends a signal to the first process or an exec; `all` reaches every process of the container.
    pub async fn task_kill(
        &self,
        container_id: &str,
        exec_id: &str,
        signal: u32,
        all: bool,
    ) -> Result<(), BackendError> {
        let request = wire::KillRequest {
            container_id: container_id.to_owned(),
            exec_id: exec_id.to_owned(),
            signal,
            all,
        };
        self.change("kill", container_id, None, |link| async move {
            client!(TasksClient<Link>, link).kill(request).await
        })
        .await
    }

    /// Adds an exec to a running task; [`Self::task_start`] with its id runs it.
    pub async fn exec_create(&self, spec: &ExecSpec) -> Result<(), BackendError> {
        let request = wire::ExecProcessRequest {
            container_id: spec.container_id.clone(),
            exec_id: spec.exec_id.clone(),
            stdin: spec.stdin.clone(),
            stdout: spec.stdout.clone(),
            stderr: spec.stderr.clone(),
            terminal: spec.terminal,
            spec: Some(prost_types::Any {
                type_url: type_url::OCI_PROCESS.to_owned(),
                value: spec.process.clone(),
            }),
        };
        self.change("create exec", &spec.exec_id, None, |link| async move {
            client!(TasksClient<Link>, link).exec(request).await
        })
        .await
    }

    /// Sets the size of a terminal, in characters.
    pub async fn task_resize(
        &self,
        container_id: &str,
        exec_id: &str,
        width: u32,
        height: u32,
    ) -> Result<(), BackendError> {
        let request = wire::ResizePtyRequest {
            container_id: container_id.to_owned(),
            exec_id: exec_id.to_owned(),
            width,
            height,
        };
        self.change("resize", container_id, None, |link| async move {
            client!(TasksClient<Link>, link).resize_pty(request).await
        })
        .await
    }

    /// Closes the shim's own hold on a process's stdin FIFO.
    pub async fn task_close_stdin(&self, container_id: &str, exec_id: &str) -> Result<(), BackendError> {
        let request = wire::CloseIoRequest {
            container_id: container_id.to_owned(),
            exec_id: exec_id.to_owned(),
            stdin: true,
        };
        self.change("close stdin", container_id, None, |link| async move {
            client!(TasksClient<Link>, link).close_io(request).await
        })
        .await
    }

    /// Freezes every process of the container.
    pub async fn task_pause(&self, container_id: &str) -> Result<(), BackendError> {
        let request = wire::PauseTaskRequest { container_id: container_id.to_owned() };
        self.change("pause", container_id, None, |link| async move {
            client!(TasksClient<Link>, link).pause(request).await
        })
        .await
    }

    /// Thaws them.
    pub async fn task_resume(&self, container_id: &str) -> Result<(), BackendError> {
        let request = wire::ResumeTaskRequest { container_id: container_id.to_owned() };
        self.change("resume", container_id, None, |link| async move {
            client!(TasksClient<Link>, link).resume(request).await
        })
        .await
    }

    /// Pids, in the host's namespace, of every process of the container.
    pub async fn task_pids(&self, container_id: &str) -> Result<Vec<u32>, BackendError> {
        let answer = self
            .read("list processes", container_id, |link| async move {
                let request = wire::ListPidsRequest { container_id: container_id.to_owned() };
                client!(TasksClient<Link>, link).list_pids(request).await
            })
            .await?;
        Ok(answer.processes.into_iter().map(|p| p.pid).collect())
    }

    /// Changes limits of a running container; `resources` is the OCI LinuxResources as JSON.
    pub async fn task_update(&self, container_id: &str, resources: Vec<u8>) -> Result<(), BackendError> {
        let request = wire::UpdateTaskRequest {
            container_id: container_id.to_owned(),
            resources: Some(prost_types::Any {
                type_url: type_url::OCI_RESOURCES.to_owned(),
                value: resources,
            }),
            ..Default::default()
        };
        self.change("update task", container_id, None, |link| async move {
            client!(TasksClient<Link>, link).update(request).await
        })
        .await
    }
}

fn from_wire(wire: process::Process) -> ProcessInfo {
    let status = match wire.status() {
        process::Status::Unknown => ProcessStatus::Unknown,
        process::Status::Created => ProcessStatus::Created,
        process::Status::Running => ProcessStatus::Running,
        process::Status::Pausing => ProcessStatus::Pausing,
        process::Status::Paused => ProcessStatus::Paused,
        process::Status::Stopped => {
            ProcessStatus::Stopped(Exit { status: wire.exit_status, at: convert::exact_time(wire.exited_at) })
        }
    };
    // the tasks service names the container in `id` for first processes and leaves `container_id` empty
    let container_id = if wire.container_id.is_empty() { wire.id } else { wire.container_id };
    ProcessInfo { container_id, pid: wire.pid, status }
}
