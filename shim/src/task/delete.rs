//! Delete and Shutdown.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime};

use wharf_containerd::containerd::events::TaskDelete;
use wharf_containerd::containerd::task::v3::{DeleteRequest, DeleteResponse};

use super::container::Container;
use super::launch::stop_in_background;
use super::process::{Process, State, exited_at};
use super::{Shim, thread};
use crate::error::TaskError;
use crate::reaper::Exit;
use crate::{log, mounts, record};

/// FIFOs are waited for ten seconds; this is only for a thread that is lost.
const CLOSED: Duration = Duration::from_secs(15);
/// A created init that the runtime has killed.
const KILLED: Duration = Duration::from_secs(10);
/// How long a daemon that is away may delay the end of a shim that holds nothing.
const LAST_EVENTS: Duration = Duration::from_secs(2);

impl Shim {
    /// `Task.Delete`.
    pub(super) fn delete(self: &Arc<Self>, request: &DeleteRequest) -> Result<DeleteResponse, TaskError> {
        let container = self.settled_container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let exit = match &process.exec_id {
            None => self.delete_init(&container)?,
            Some(exec_id) => self.delete_exec(&container, &process, exec_id)?,
        };
        Ok(DeleteResponse { pid: exit.pid, exit_status: exit.status, exited_at: exited_at(&exit) })
    }

    pub(super) fn delete_init(&self, container: &Container) -> Result<Exit, TaskError> {
        let _changing = container.changing();
        let init = &container.init;
        let exit = match init.state() {
            State::Stopped(exit) => match container.runtime.delete(&container.id, false) {
                Err(e) if !e.is_absent() => {
                    return Err(TaskError::failed(format_args!("failed to delete task: {e}")));
                }
                _ => exit,
            },
            State::Created(_) => {
                container.runtime.delete(&container.id, true).map_err(|e| e.during("delete"))?;
                init.wait_stopped(KILLED).ok_or_else(|| {
                    TaskError::failed(format_args!("container {} was killed but did not end", container.id))
                })?
            }
            // never restored: it has no exit, and the runtime may know nothing of it
            State::Added => match container.runtime.delete(&container.id, true) {
                Err(e) if !e.is_absent() => return Err(e.during("delete")),
                _ => Exit { pid: 0, status: 0, at: SystemTime::UNIX_EPOCH },
            },
            state => return Err(state.refuse("delete", "process")),
        };
        let left: Vec<_> = container.execs().known.drain().filter_map(|(_, exec)| exec).collect();
        for exec in &left {
            self.close_streams(exec);
        }
        self.close_streams(init);
        if let Some(rootfs) = &container.rootfs {
            mounts::unmount_all(rootfs)
                .map_err(|e| TaskError::failed(format_args!("failed rootfs umount: {e}")))?;
        }
        init.lock().state = State::Deleted(exit);
        self.lock().containers.remove(&container.id);
        self.events.publish(&TaskDelete {
            container_id: container.id.clone(),
            pid: exit.pid,
            exit_status: exit.status,
            exited_at: exited_at(&exit),
            id: String::new(),
        });
        Ok(exit)
    }

    fn delete_exec(
        &self,
        container: &Container,
        process: &Process,
        exec_id: &str,
    ) -> Result<Exit, TaskError> {
        let exit = {
            let mut inner = process.lock();
            let exit = match &inner.state {
                State::Stopped(exit) => *exit,
                // never started: it has no exit
                State::Added => Exit { pid: 0, status: 0, at: SystemTime::UNIX_EPOCH },
                state => return Err(state.refuse("delete", "process")),
            };
            inner.state = State::Deleted(exit);
            exit
        };
        self.close_streams(process);
        record::remove(&container.bundle, exec_id);
        let _ = std::fs::remove_file(container.bundle.join(format!("{exec_id}.pid")));
        // last: from now on the id, and with it the files' names, may be another's
        container.execs().known.remove(exec_id);
        Ok(exit)
    }

    /// Ends a process's streams; waits for FIFOs to be read, ten seconds at most.
    fn close_streams(&self, process: &Process) {
        let (sender, receiver) = channel();
        self.io.close(process.session, move || {
            let _ = sender.send(());
        });
        if receiver.recv_timeout(CLOSED).is_err() {
            log::error(format_args!("streams were not closed within {} s", CLOSED.as_secs()));
        }
        let mut inner = process.lock();
        inner.console = None;
        inner.plan = None;
        inner.restore = None;
        if let Some(logger) = inner.logger.take() {
            stop_in_background(logger);
        }
    }

    /// `Task.Shutdown`: whether the program is to end now ([`Shim::end`]), once that is answered. It is if it holds no container. Clients that are still taking output
    /// are served to their end first. A container that is only being created does not count: it is given up. A
    /// sandbox keeps the program.
    ///
    /// The socket's file is removed before that is answered, and never later: who has the answer may have the next
    /// shim of this name started, which is to find neither this one there nor its own socket removed.
    pub(super) fn shutdown(&self) -> bool {
        if self.has_sandbox() {
            return false;
        }
        let mut held = self.lock();
        if held.ending || held.containers.values().any(Option::is_some) {
            return false;
        }
        held.ending = true;
        if let Some(socket) = &self.settings.socket {
            let _ = std::fs::remove_file(socket);
        }
        // a creation's failure ends the program
        held.containers.is_empty()
    }

    /// Ends the program; needs [`Holdings::ending`](super::Holdings).
    pub(super) fn end(self: &Arc<Self>) -> std::io::Result<()> {
        let there = Arc::clone(self);
        thread("shutdown", move || {
            there.events.flush(LAST_EVENTS);
            let (sender, receiver) = channel();
            there.io.when_idle(move || {
                let _ = sender.send(());
            });
            let _ = receiver.recv();
            std::process::exit(0);
        })
    }
}
