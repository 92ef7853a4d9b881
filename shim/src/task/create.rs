//! Create: the root filesystem is mounted, the streams opened, the runtime makes the init.

mod order;
mod undo;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use wharf_containerd::containerd::events::{TaskCreate, TaskIo, TaskOom};
use wharf_containerd::containerd::task::v3::{CreateTaskRequest, CreateTaskResponse};
use wharf_kinds::Kind;

use self::order::Order;
use self::undo::Undo;
use super::Shim;
use super::announce::Happening;
use super::cgroup;
use super::container::Container;
use super::launch::Streams;
use super::process::{Child, Process, RestorePlan, State};
use crate::error::TaskError;
use crate::io::{Ready, SessionId};
use crate::log;
use crate::mounts;
use crate::reaper::Adopted;
use crate::runtime::Runtime;

impl Shim {
    /// `Task.Create`.
    pub(super) fn create(
        self: &Arc<Self>,
        request: CreateTaskRequest,
    ) -> Result<CreateTaskResponse, TaskError> {
        let order = Order::of(request)?;
        self.admits()?;
        let id = order.request.id.clone();
        {
            let mut held = self.lock();
            if held.ending {
                return Err(ending());
            }
            if held.containers.contains_key(&id) {
                return Err(TaskError::new(Kind::AlreadyExists, format_args!("container {id}")));
            }
            held.containers.insert(id.clone(), None);
        }
        let mut undo = Undo {
            shim: self,
            id: &id,
            rootfs: None,
            session: None,
            logger: None,
            runtime: None,
            armed: true,
        };
        let response = self.make(&order, &mut undo)?;
        undo.armed = false;
        Ok(response)
    }

    fn make(self: &Arc<Self>, order: &Order, undo: &mut Undo<'_>) -> Result<CreateTaskResponse, TaskError> {
        let (id, bundle) = (&order.request.id, &order.bundle);
        let of_bundle = |e: io::Error| TaskError::failed(format_args!("bundle {}: {e}", bundle.display()));
        order.options.store(bundle).map_err(of_bundle)?;
        if !order.mounts.is_empty() {
            let rootfs = bundle.join("rootfs");
            make_folder(&rootfs).map_err(of_bundle)?;
            undo.rootfs = Some(rootfs.clone());
            mounts::execute(&order.mounts, &rootfs, &self.reaper)
                .map_err(|e| TaskError::failed(format_args!("failed to mount rootfs component: {e}")))?;
        }
        let opened = self.open_streams(&order.streams, &order.stdio, id)?;
        let session = self.io.add(opened.parts);
        undo.session = Some(session);
        undo.logger = opened.logger;

        let root = order.options.runtime_root(self.settings.socket_dir.as_deref(), &self.settings.namespace);
        let runtime = Runtime::new(Arc::clone(&self.reaper), &order.options, root, bundle.clone());
        let io_owner = (order.options.io_uid, order.options.io_gid);
        if !order.request.checkpoint.is_empty() {
            let plan = RestorePlan { from: order.checkpoint(), pipes: opened.pipes, direct: opened.direct };
            return self.make_restorable(order, undo, runtime, session, plan);
        }
        let expecting = self.reaper.expecting();
        let pid_file = bundle.join("init.pid");
        let streams = Streams { bundle, name: id, stdio: &order.stdio, pipes: opened.pipes, io_owner };
        let (console, pid) = self.launch(&streams, session, opened.direct, &pid_file, |launch| {
            let made = runtime.create(id, launch).map_err(|e| e.during("create"));
            undo.runtime = made.is_ok().then(|| runtime.clone());
            made
        })?;

        let cgroup = cgroup::of(pid);
        let init = Process::new(None, order.stdio.clone(), session, State::Added);
        {
            let mut inner = init.lock();
            inner.console = console;
            inner.logger = undo.logger.take();
        }
        let container = Arc::new(Container::new(
            id.clone(),
            bundle.clone(),
            runtime,
            undo.rootfs.clone(),
            order.own_pids,
            io_owner,
            init,
            cgroup,
        ));
        self.publish_created(&order.request, pid);
        let on_exit = self.on_exit_of(&container, &container.init);
        // the state is set before the exit can be told: both need this lock
        let mut inner = container.init.lock();
        let adopted = self.reaper.adopt(&expecting, pid, on_exit);
        let ended = match adopted {
            Ok(Adopted::Watched(fd)) => {
                inner.state = State::Created(Child { pid, fd: Arc::new(fd) });
                None
            }
            Ok(Adopted::Ended(exit)) => Some(exit),
            Err(e) => {
                undo.logger = inner.logger.take();
                return Err(TaskError::failed(format_args!("init process {pid} is not the runtime's: {e}")));
            }
        };
        drop(inner);
        self.watch_oom(&container);
        self.settle(&container, undo)?;
        if let Some(exit) = ended {
            self.tell(Happening::Exited(Arc::clone(&container), Arc::clone(&container.init), exit));
        }
        Ok(CreateTaskResponse { pid })
    }

    /// A container that begins with [`Shim::restore_init`] at its start: until then the runtime knows nothing of it.
    fn make_restorable(
        self: &Arc<Self>,
        order: &Order,
        undo: &mut Undo<'_>,
        runtime: Runtime,
        session: SessionId,
        plan: RestorePlan,
    ) -> Result<CreateTaskResponse, TaskError> {
        let init = Process::new(None, order.stdio.clone(), session, State::Added);
        {
            let mut inner = init.lock();
            inner.restore = Some(plan);
            inner.logger = undo.logger.take();
        }
        let container = Arc::new(Container::new(
            order.request.id.clone(),
            order.bundle.clone(),
            runtime,
            undo.rootfs.clone(),
            order.own_pids,
            (order.options.io_uid, order.options.io_gid),
            init,
            None,
        ));
        self.publish_created(&order.request, 0);
        self.settle(&container, undo)?;
        Ok(CreateTaskResponse { pid: 0 })
    }

    fn publish_created(&self, request: &CreateTaskRequest, pid: u32) {
        self.events.publish(&TaskCreate {
            container_id: request.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(TaskIo {
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
                terminal: request.terminal,
            }),
            checkpoint: request.checkpoint.clone(),
            pid,
        });
    }

    /// The creation is over: the container can be asked for.
    fn settle(&self, container: &Arc<Container>, undo: &mut Undo<'_>) -> Result<(), TaskError> {
        {
            let mut held = self.lock();
            if held.ending {
                // nobody waits for it any more
                undo.logger = container.init.lock().logger.take();
                return Err(ending());
            }
            held.containers.insert(container.id.clone(), Some(Arc::clone(container)));
        }
        self.settled.notify_all();
        Ok(())
    }

    fn creation_failed(self: &Arc<Self>, id: &str) {
        let ends = {
            let mut held = self.lock();
            held.containers.remove(id);
            held.ending && held.containers.is_empty()
        };
        self.settled.notify_all();
        // the answer to Create gets out meanwhile
        if ends && let Err(e) = self.end() {
            log::error(format_args!("shutdown: {e}"));
        }
    }

    pub(super) fn watch_oom(&self, container: &Container) {
        let Some(cgroup) = container.cgroup.get() else { return };
        let (events, container_id) = (self.events.clone(), container.id.clone());
        let watched = cgroup::watch_oom(cgroup, &self.io, move || {
            events.publish(&TaskOom { container_id: container_id.clone() });
            Ready::Again
        });
        if let Err(e) = watched {
            log::warn(format_args!("container {}: {e}", container.id));
        }
    }
}

fn ending() -> TaskError {
    TaskError::new(Kind::Unavailable, "shim is shutting down")
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o711).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
