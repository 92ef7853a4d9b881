//! Create: the root filesystem is mounted, the streams opened, the runtime makes the init.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_containerd::containerd::events::{TaskCreate, TaskIo, TaskOom};
use wharf_containerd::containerd::task::v3::{CreateTaskRequest, CreateTaskResponse};
use wharf_kinds::Kind;

use super::Shim;
use super::announce::Happening;
use super::cgroup;
use super::container::{Container, SpecFacts};
use super::process::{Child, Process, RestorePlan, State, Stdio};
use crate::error::TaskError;
use crate::io::{Console, ConsoleSocket, Logger, Opened, Owner, Pipes, Plan, Ready, SessionId};
use crate::log;
use crate::mounts::{self, Planned};
use crate::options::Options;
use crate::reaper::Adopted;
use crate::runtime::{Checkpoint, ChildStdio, Launch, Runtime, is_plain_name, read_pid};

/// A request that makes sense; nothing was done yet.
struct Order {
    request: CreateTaskRequest,
    bundle: PathBuf,
    options: Options,
    streams: Plan,
    stdio: Stdio,
    mounts: Vec<Planned>,
    own_pids: bool,
}

impl Order {
    /// The checkpoint that the request names.
    fn checkpoint(&self) -> Checkpoint {
        let parent = &self.request.parent_checkpoint;
        let work = &self.options.criu_work_path;
        Checkpoint {
            images: PathBuf::from(&self.request.checkpoint),
            parent: (!parent.is_empty()).then(|| PathBuf::from(parent)),
            work: if work.is_empty() { self.bundle.join("work") } else { PathBuf::from(work) },
        }
    }
}

/// Undoes what Create did, unless it is disarmed.
struct Undo<'a> {
    shim: &'a Arc<Shim>,
    id: &'a str,
    rootfs: Option<PathBuf>,
    session: Option<SessionId>,
    logger: Option<Logger>,
    /// The runtime knows the container.
    runtime: Option<Runtime>,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Some(runtime) = &self.runtime
            && let Err(e) = runtime.delete(self.id, true)
        {
            log::warn(format_args!("container {}: after a failed create: {e}", self.id));
        }
        if let Some(session) = self.session {
            self.shim.io.close(session, || ());
        }
        if let Some(logger) = self.logger.take() {
            stop_in_background(logger);
        }
        if let Some(rootfs) = &self.rootfs
            && let Err(e) = mounts::unmount_all(rootfs)
        {
            log::warn(format_args!("container {}: after a failed create: {e}", self.id));
        }
        self.shim.creation_failed(self.id);
    }
}

pub(super) fn stop_in_background(logger: Logger) {
    if let Err(e) = super::thread("logger", move || logger.stop()) {
        log::error(format_args!("no thread to stop a logging program: {e}"));
    }
}

impl Shim {
    /// `Task.Create`.
    pub(super) fn create(
        self: &Arc<Self>,
        request: CreateTaskRequest,
    ) -> Result<CreateTaskResponse, TaskError> {
        let order = understand(request)?;
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

    pub(super) fn open_streams(&self, plan: &Plan, stdio: &Stdio, id: &str) -> Result<Opened, TaskError> {
        let owner = Owner { id, namespace: &self.settings.namespace };
        let opened = crate::io::open(plan, stdio.terminal, &owner, &self.reaper);
        let mut opened =
            opened.map_err(|e| TaskError::failed(format_args!("failed to create process I/O: {e}")))?;
        opened.pipes[0] &= !stdio.stdin.is_empty();
        Ok(opened)
    }

    /// Has the runtime make a process, with its streams; returns its terminal and pid.
    pub(super) fn launch(
        &self,
        streams: &Streams<'_>,
        session: SessionId,
        direct: ChildStdio,
        pid_file: &Path,
        run: impl FnOnce(Launch<'_>) -> Result<(), TaskError>,
    ) -> Result<(Option<Console>, u32), TaskError> {
        let failed = |what: &'static str| move |e: io::Error| TaskError::failed(format_args!("{what}: {e}"));
        let _ = std::fs::remove_file(pid_file);
        let console = if streams.stdio.terminal {
            let socket = ConsoleSocket::new(streams.bundle, streams.name)
                .map_err(failed("failed to create OCI runtime console socket"))?;
            let path = socket.path();
            run(Launch { pid_file, console_socket: Some(&path), stdio: ChildStdio::default() })?;
            let console = socket.receive().map_err(failed("failed to retrieve console master"))?;
            let sources = console.sources(!streams.stdio.stdin.is_empty());
            self.io.connect(session, sources.map_err(failed("failed to start console copy"))?);
            Some(console)
        } else {
            let mut pipes = Pipes::new(streams.pipes, streams.io_owner)
                .map_err(failed("failed to create process I/O"))?;
            pipes.child.stdout = pipes.child.stdout.or(direct.stdout);
            pipes.child.stderr = pipes.child.stderr.or(direct.stderr);
            run(Launch { pid_file, console_socket: None, stdio: pipes.child })?;
            self.io.connect(session, pipes.sources);
            None
        };
        let pid = read_pid(pid_file).map_err(failed("failed to retrieve OCI runtime container pid"))?;
        Ok((console, pid))
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

/// What a process's streams are made from.
pub(super) struct Streams<'a> {
    pub bundle: &'a Path,
    /// The container's or the exec's id.
    pub name: &'a str,
    pub stdio: &'a Stdio,
    pub pipes: [bool; 3],
    pub io_owner: (u32, u32),
}

fn ending() -> TaskError {
    TaskError::new(Kind::Unavailable, "shim is shutting down")
}

fn understand(request: CreateTaskRequest) -> Result<Order, TaskError> {
    let invalid = |text: String| TaskError::new(Kind::InvalidArgument, text);
    if !is_plain_name(&request.id) {
        return Err(invalid(format!("container id {:?} must be letters, digits, '_', '.', '-'", request.id)));
    }
    let bundle = PathBuf::from(&request.bundle);
    if !bundle.is_absolute() {
        return Err(invalid(format!("bundle {:?} is not an absolute path", request.bundle)));
    }
    if !request.checkpoint.is_empty() && !request.checkpoint.starts_with('/') {
        return Err(invalid(format!("checkpoint {:?} is not an absolute path", request.checkpoint)));
    }
    let options = Options::from_any(request.options.as_ref()).map_err(invalid)?;
    let streams = Plan::of_process(request.terminal, &request.stdin, &request.stdout, &request.stderr);
    let streams = streams.map_err(|e| invalid(e.to_string()))?;
    let mounts = mounts::plan(&request.rootfs).map_err(|e| invalid(e.to_string()))?;
    let own_pids = SpecFacts::read(&bundle).map(|facts| facts.own_pids).unwrap_or_else(|e| {
        // the runtime says what is wrong with the spec
        log::debug(format_args!("bundle {}: config.json: {e}", bundle.display()));
        false
    });
    let stdio = Stdio {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    };
    Ok(Order { request, bundle, options, streams, stdio, mounts, own_pids })
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o711).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
