//! What an exit leads to: it is recorded on disk, the output is delivered, then those who wait are told
//! and the event is published. One thread does all of it, so that the order is the same for everyone.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use wharf_containerd::containerd::events::TaskExit;

use super::cgroup;
use super::container::Container;
use super::process::{Process, State, exited_at};
use super::{Shim, thread};
use crate::reaper::Exit;
use crate::{log, record};

const SIGKILL: u32 = 9;
/// How long the exit of an init waits for processes that were killed with it. One in the midst of a slow system call
/// does not hold the news up for longer.
const REST: Duration = Duration::from_secs(2);

/// News for the announcing thread.
pub(super) enum Happening {
    /// A process was reaped.
    Exited(Arc<Container>, Arc<Process>, Exit),
    /// All that a reaped process wrote is where it belongs.
    Delivered(Arc<Container>, Arc<Process>, Exit),
    /// An exec that counted as running never came to run.
    ExecFailed(Arc<Container>),
}

impl Shim {
    pub(super) fn announce(self: &Arc<Self>, news: &Receiver<Happening>) {
        while let Ok(happening) = news.recv() {
            match happening {
                Happening::Exited(container, process, exit) => self.on_exited(container, process, exit),
                Happening::Delivered(container, process, exit) => {
                    self.on_delivered(&container, &process, exit);
                }
                Happening::ExecFailed(container) => self.exec_over(&container),
            }
        }
    }

    /// Sends the news of a reaped process; the reaper's callback.
    pub(super) fn on_exit_of(
        self: &Arc<Self>,
        container: &Arc<Container>,
        process: &Arc<Process>,
    ) -> Box<dyn FnOnce(Exit) + Send> {
        let (shim, container, process) = (Arc::clone(self), Arc::clone(container), Arc::clone(process));
        Box::new(move |exit| shim.tell(Happening::Exited(container, process, exit)))
    }

    fn on_exited(self: &Arc<Self>, container: Arc<Container>, process: Arc<Process>, exit: Exit) {
        if let State::Starting(_, ended) = &mut process.lock().state {
            // whoever starts it tells of the start first, then sends this again
            *ended = Some(exit);
            return;
        }
        if let Err(e) = record::write(&container.bundle, process.exec_id.as_deref(), &exit) {
            log::error(format_args!("{e}"));
        }
        if process.exec_id.is_none() {
            container.execs().init_ended = true;
            if !container.own_pids {
                return self.end_rest(container, process, exit);
            }
        }
        self.deliver(container, process, exit);
    }

    /// What was written is brought where it belongs before the exit is told.
    fn deliver(self: &Arc<Self>, container: Arc<Container>, process: Arc<Process>, exit: Exit) {
        let shim = Arc::clone(self);
        self.io.exited(process.session, move || {
            let there = Arc::clone(&shim);
            there.tell(Happening::Delivered(container, process, exit));
        });
    }

    /// Without a process namespace of its own, a container's other processes outlive its init. They are ended before
    /// its exit is told: whoever hears of that takes the container for over.
    fn end_rest(self: &Arc<Self>, container: Arc<Container>, process: Arc<Process>, exit: Exit) {
        let (shim, there, init) = (Arc::clone(self), Arc::clone(&container), Arc::clone(&process));
        let ending = thread("kill", move || {
            if let Err(e) = there.runtime.kill(&there.id, SIGKILL, true) {
                log::debug(format_args!("container {}: killing what its init left: {e}", there.id));
            }
            if let Some(cgroup) = there.cgroup.get() {
                cgroup::await_empty(cgroup, REST);
            }
            shim.deliver(there, init, exit);
        });
        if let Err(e) = ending {
            log::error(format_args!("container {}: no thread to kill what its init left: {e}", container.id));
            self.deliver(container, process, exit);
        }
    }

    fn on_delivered(self: &Arc<Self>, container: &Arc<Container>, process: &Arc<Process>, exit: Exit) {
        if process.exec_id.is_none() {
            let mut execs = container.execs();
            if execs.running > 0 {
                execs.held = Some(exit);
                return;
            }
            drop(execs);
            self.finish(container, process, exit);
        } else {
            self.finish(container, process, exit);
            self.exec_over(container);
        }
    }

    fn exec_over(self: &Arc<Self>, container: &Arc<Container>) {
        let mut execs = container.execs();
        execs.running = execs.running.saturating_sub(1);
        let held = if execs.running == 0 { execs.held.take() } else { None };
        drop(execs);
        if let Some(exit) = held {
            self.finish(container, &container.init, exit);
        }
    }

    fn finish(&self, container: &Container, process: &Process, exit: Exit) {
        if !process.stop(exit) {
            return;
        }
        self.events.publish(&TaskExit {
            container_id: container.id.clone(),
            id: process.exec_id.clone().unwrap_or_else(|| container.id.clone()),
            pid: exit.pid,
            exit_status: exit.status,
            exited_at: exited_at(&exit),
        });
    }
}
