//! The tasks of one shim: containers, their processes, and what may be done with them when.

mod announce;
mod cgroup;
mod checkpoint;
mod container;
mod create;
mod delete;
mod exec;
mod launch;
mod metrics;
mod process;
mod query;
mod sandbox;
mod service;
mod signal;
mod start;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wharf_kinds::Kind;

use self::announce::Happening;
use self::container::Container;
pub(crate) use self::container::SpecFacts;
use crate::error::TaskError;
use crate::events::Events;
use crate::io::Io;
use crate::reaper::Reaper;

/// Longer than the runtime may take to create.
const CREATION: Duration = Duration::from_secs(310);

/// What the shim was started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The containerd namespace.
    pub namespace: String,
    /// The folder of shim sockets, if the daemon said so: runtime state goes beside it.
    pub socket_dir: Option<PathBuf>,
    /// The shim's own socket, removed at shutdown.
    pub socket: Option<PathBuf>,
    /// The daemon's ttrpc socket, for events.
    pub events: Option<PathBuf>,
}

/// The shim: every container it holds, and the threads that serve them.
pub struct Shim {
    settings: Settings,
    reaper: Arc<Reaper>,
    io: Arc<Io>,
    events: Events,
    happenings: Mutex<Sender<Happening>>,
    holdings: Mutex<Holdings>,
    /// Never locked while `holdings` is.
    sandbox: Mutex<Option<sandbox::Sandbox>>,
    /// A creation is over, well or not.
    settled: Condvar,
}

#[derive(Default)]
struct Holdings {
    /// By id. `None` while a container is being created.
    containers: HashMap<String, Option<Arc<Container>>>,
    /// Shutdown was asked for when no container was there: none may come any more.
    ending: bool,
}

impl Shim {
    /// Starts the threads.
    ///
    /// # Errors
    /// If a thread or a descriptor cannot be made.
    pub fn new(settings: Settings) -> std::io::Result<Arc<Shim>> {
        let (happenings, receiver) = channel();
        let shim = Arc::new(Shim {
            reaper: Arc::new(Reaper::default()),
            io: Arc::new(Io::start()?),
            events: Events::start(&settings.namespace, settings.events.clone())?,
            happenings: Mutex::new(happenings),
            holdings: Mutex::default(),
            sandbox: Mutex::default(),
            settled: Condvar::new(),
            settings,
        });
        let reaper = Arc::clone(&shim.reaper);
        thread("reaper", move || reaper.run())?;
        let there = Arc::clone(&shim);
        thread("announcer", move || there.announce(&receiver))?;
        Ok(shim)
    }

    fn lock(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn container(&self, id: &str) -> Result<Arc<Container>, TaskError> {
        let found = self.lock().containers.get(id).cloned().flatten();
        found.ok_or_else(not_created)
    }

    /// The container; one that is being created is waited for. A daemon that died while it had one created asks
    /// when it is back, and an answer that there is none would have it forget what is about to be.
    fn settled_container(&self, id: &str) -> Result<Arc<Container>, TaskError> {
        let creating = |held: &mut Holdings| matches!(held.containers.get(id), Some(None));
        let held = self.settled.wait_timeout_while(self.lock(), CREATION, creating);
        let (mut held, _) = held.unwrap_or_else(PoisonError::into_inner);
        if creating(&mut held) {
            let text = format_args!("container {id} is still being created");
            return Err(TaskError::new(Kind::FailedPrecondition, text));
        }
        held.containers.get(id).cloned().flatten().ok_or_else(not_created)
    }

    fn tell(&self, happening: Happening) {
        let happenings = self.happenings.lock().unwrap_or_else(PoisonError::into_inner);
        // the receiving thread ends with the process only
        let _ = happenings.send(happening);
    }
}

fn not_created() -> TaskError {
    TaskError::new(Kind::NotFound, "container not created")
}

/// Starts a thread with a small stack.
fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.into()).stack_size(512 * 1024).spawn(run).map(drop)
}
