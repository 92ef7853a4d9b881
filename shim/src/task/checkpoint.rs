//! Checkpoint, and the start of a container that goes on from one.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use prost_types::Any;
use wharf_containerd::containerd::events::{TaskCheckpointed, TaskStart};
use wharf_containerd::containerd::runc::v1::CheckpointOptions;
use wharf_containerd::containerd::task::v3::CheckpointTaskRequest;
use wharf_kinds::Kind;

use super::announce::Happening;
use super::container::Container;
use super::launch::Streams;
use super::process::{Child, RestorePlan, State};
use super::{Shim, cgroup};
use crate::error::TaskError;
use crate::log;
use crate::reaper::Adopted;

const OPTIONS: &str = "containerd.runc.v1.CheckpointOptions";

impl Shim {
    /// `Task.Checkpoint`.
    pub(super) fn checkpoint(&self, request: &CheckpointTaskRequest) -> Result<(), TaskError> {
        let invalid = |text: String| TaskError::new(Kind::InvalidArgument, text);
        let container = self.container(&request.id)?;
        let options = options(request.options.as_ref()).map_err(invalid)?;
        let images = Path::new(&request.path);
        if !images.is_absolute() {
            return Err(invalid(format!("checkpoint path {:?} is not an absolute path", request.path)));
        }
        let _changing = container.changing();
        match container.init.state() {
            State::Running(_) | State::Paused(_) => {}
            State::Created(_) | State::Added => {
                let text = "cannot checkpoint a task in created state";
                return Err(TaskError::new(Kind::FailedPrecondition, text));
            }
            state => return Err(state.refuse("checkpoint", "container")),
        }
        let work = Work::new(&container.bundle, &options.work_path)
            .map_err(|e| TaskError::failed(format_args!("checkpoint work folder: {e}")))?;
        container.runtime.checkpoint(&container.id, images, &work.path, &options).map_err(|e| {
            let kept = container.bundle.join("criu-dump.log");
            if let Err(e) = std::fs::copy(work.path.join("dump.log"), &kept) {
                log::error(format_args!("container {}: CRIU's log is not kept: {e}", container.id));
            }
            let said = e.to_string();
            let first = said.lines().next().unwrap_or_default();
            TaskError::failed(format_args!("{first} path= {}", kept.display()))
        })?;
        self.events.publish(&TaskCheckpointed {
            container_id: container.id.clone(),
            checkpoint: request.path.clone(),
        });
        Ok(())
    }

    /// The start of an init that was created from a checkpoint.
    pub(super) fn restore_init(
        self: &Arc<Self>,
        container: &Arc<Container>,
        plan: RestorePlan,
    ) -> Result<u32, TaskError> {
        let init = &container.init;
        let restored = self.launch_restored(container, plan);
        if restored.is_err() {
            init.lock().state = State::Added;
        }
        restored
    }

    fn launch_restored(
        self: &Arc<Self>,
        container: &Arc<Container>,
        plan: RestorePlan,
    ) -> Result<u32, TaskError> {
        let RestorePlan { from, pipes, direct } = plan;
        let init = &container.init;
        let expecting = self.reaper.expecting();
        let streams = Streams {
            bundle: &container.bundle,
            name: &container.id,
            stdio: &init.stdio,
            pipes,
            io_owner: container.io_owner,
        };
        let pid_file = container.bundle.join("init.pid");
        let (console, pid) = self.launch(&streams, init.session, direct, &pid_file, |launch| {
            container.runtime.restore(&container.id, launch, &from).map_err(|e| e.during("restore"))
        })?;
        if let Some(cgroup) = cgroup::of(pid) {
            // only a restore sets it, and there is one
            let _ = container.cgroup.set(cgroup);
        }
        self.events.publish(&TaskStart { container_id: container.id.clone(), pid });
        let on_exit = self.on_exit_of(container, init);
        let mut inner = init.lock();
        inner.console = console;
        match self.reaper.adopt(&expecting, pid, on_exit) {
            Ok(Adopted::Watched(fd)) => inner.state = State::Running(Child { pid, fd: Arc::new(fd) }),
            Ok(Adopted::Ended(exit)) => {
                self.tell(Happening::Exited(Arc::clone(container), Arc::clone(init), exit));
            }
            Err(e) => {
                return Err(TaskError::failed(format_args!("init process {pid} is not the runtime's: {e}")));
            }
        }
        drop(inner);
        self.watch_oom(container);
        Ok(pid)
    }
}

fn options(any: Option<&Any>) -> Result<CheckpointOptions, String> {
    let Some(any) = any.filter(|any| !any.value.is_empty()) else { return Ok(CheckpointOptions::default()) };
    if any.type_url.rsplit('/').next() != Some(OPTIONS) {
        return Err(format!("checkpoint options are {:?}, not {OPTIONS}", any.type_url));
    }
    CheckpointOptions::decode(&any.value[..]).map_err(|e| format!("checkpoint options: {e}"))
}

/// Where CRIU works: a folder that the caller named and keeps, or one in the container's work folder, removed after.
struct Work {
    path: PathBuf,
    keep: bool,
}

impl Work {
    fn new(bundle: &Path, asked: &str) -> io::Result<Work> {
        let keep = !asked.is_empty();
        let path = if keep { PathBuf::from(asked) } else { bundle.join("work/criu-work") };
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Work { path, keep })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
