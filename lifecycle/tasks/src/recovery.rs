//! Finding the shims again after the daemon was away.
//!
//! Every bundle's shim is connected to and asked for its state at the same time, so that a thousand take no
//! longer than the slowest, and the slowest no longer than a fixed while. Only a shim that is gone costs a
//! process, in the background and a few at a time.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wharf_containerd::containerd::task::v3::{StateRequest, StateResponse};
use wharf_kinds::Kind;

use crate::bundle::{self, Bundle, BundleError};
use crate::client::{CallError, ShimClient, means_dead};
use crate::create::blocking;
use crate::endpoint::{Address, Endpoint, Protocol};
use crate::limits;
use crate::process::{Phase, Process, Stdio};
use crate::shimlog;
use crate::task::{Link, Stage, Task};
use crate::tasks::Tasks;

/// Dead shims cleaned up at a time: each is a process, and they compete with whatever the machine is doing.
const BURIALS: usize = 4;

/// The bundles could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("find bundles: {0}")]
pub struct RecoverError(#[from] BundleError);

/// What was found at start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Tasks that are back, those of stuck shims included.
    pub tasks: usize,
    /// Shims that are gone and are being cleaned up after.
    pub dead: usize,
    /// Bundles removed without a word: never used, or already deleted.
    pub swept: usize,
}

enum Found {
    Task,
    Dead(Arc<Task>),
    Swept,
}

impl Tasks {
    /// Finds all tasks again. Returns once every shim has answered or has had its time; dead shims are cleaned
    /// up after in the background.
    pub async fn recover(&self) -> Result<Recovered, RecoverError> {
        self.recover_sandboxes().await?;
        let (root, state) = (self.shared.config.root.clone(), self.shared.config.state.clone());
        let mut bundles = Vec::new();
        for namespace in bundle::folders(&state)? {
            bundle::sweep_hidden(&state.join(&namespace));
            bundle::sweep_hidden(&root.join(&namespace));
            let ids = bundle::folders(&state.join(&namespace))?;
            bundles.extend(ids.iter().map(|id| Bundle::at(&root, &state, &namespace, id)));
        }
        sweep_work(&root, &bundles);
        let mut recovered = Recovered::default();
        let mut dead = Vec::new();
        for found in join_all(bundles.into_iter().map(|bundle| self.find_shim(bundle))).await {
            match found {
                Found::Task => recovered.tasks += 1,
                Found::Swept => recovered.swept += 1,
                Found::Dead(task) => {
                    recovered.dead += 1;
                    dead.push(task);
                }
            }
        }
        let turns = Arc::new(Semaphore::new(BURIALS));
        for task in dead {
            let (tasks, turns) = (self.clone(), turns.clone());
            tokio::spawn(async move {
                // never closed
                let _turn = turns.acquire().await;
                tasks.bury(&task).await;
            });
        }
        Ok(recovered)
    }

    async fn find_shim(&self, bundle: Bundle) -> Found {
        let Ok(reservation) = self.reserve(&bundle.namespace, &bundle.id) else { return Found::Swept };
        if bundle.is_unused() {
            return sweep(bundle).await;
        }
        let endpoint = bundle.endpoint();
        let link = match &endpoint {
            Some(endpoint) => match ShimClient::connect(endpoint, &bundle.namespace, &bundle.id).await {
                Ok(client) => Link::Up(client),
                Err(error) if means_dead(&error) => Link::Down,
                Err(_) => Link::Awaited,
            },
            None => Link::Down,
        };
        let lives = !matches!(link, Link::Down);
        let marked = bundle.is_marked_deleted();
        if !lives && marked {
            return sweep(bundle).await;
        }
        let Some(program) = bundle.shim().or_else(|| self.program_by_record(&bundle)) else {
            tracing::warn!(id = bundle.id, namespace = bundle.namespace, "bundle without a known shim");
            return sweep(bundle).await;
        };
        let endpoint = endpoint.unwrap_or(Endpoint {
            version: 2,
            protocol: Protocol::Ttrpc,
            address: Address::Abstract(String::new()),
        });
        // cleaned up after before, and not deleted yet
        let buried = if lives { None } else { bundle.exit() };
        let phase = buried.map_or(Phase::Unknown, Phase::Stopped);
        let init = Process::new(buried.map_or(0, |exit| exit.pid), phase, Stdio::default());
        let pump = lives.then(|| shimlog::pump(&bundle));
        let task = Task::new(bundle, program, endpoint, link, init);
        if let Some(pump) = pump {
            task.keep_log(pump);
        }
        reservation.fill(&task);
        if let Some(exit) = buried {
            task.finish(Stage::Buried);
            self.announce_exit(&task, exit);
            return Found::Task;
        }
        if !lives {
            return Found::Dead(task);
        }
        // clients may have been told that it is deleted
        let leaving = marked.then(|| self.leave(&task));
        self.supervise(&task);
        let (tasks, asked) = (self.clone(), task.clone());
        let question = tokio::spawn(async move {
            tasks.take_back(&asked, marked).await;
            // whoever is removing it works on the bundle's path, which is a new task's once the id is free
            while marked && asked.is_ending() && asked.stage() == Stage::Served {
                asked.finished(limits::CLEAN_UP).await;
            }
            drop(leaving);
        });
        // a stuck shim goes on being asked while the daemon serves
        let _ = timeout(limits::RECONNECT, question).await;
        Found::Task
    }

    /// Asks a shim that was found what it is running, however long it takes to answer. One whose task clients were
    /// told is deleted (`marked`) has its time and is ended.
    async fn take_back(&self, task: &Arc<Task>, marked: bool) {
        let (id, namespace) = (task.id(), &task.bundle.namespace);
        let request = StateRequest { id: id.into(), exec_id: String::new() };
        let (asked, answer) = loop {
            let asked = SystemTime::now();
            if task.is_down() {
                return;
            }
            // bounded only so that a shim counts as stuck while it does not answer
            match task.call::<_, StateResponse>("State", &request, limits::STATE).await {
                Err(CallError::TimedOut { .. }) if !marked => {}
                // the supervisor connects again or gives up
                Err(CallError::Closed) => tokio::time::sleep(Duration::from_millis(50)).await,
                answer => break (asked, answer),
            }
        };
        match answer {
            Ok(_) if marked => {
                tracing::warn!(id, namespace, "ending a shim that still has a deleted task");
                if task.claim_ending() {
                    self.delete_again(task).await;
                }
            }
            Ok(answer) => {
                task.remember("", answer, asked);
                let exit = task.processes().init.exit();
                if let Some(exit) = exit {
                    // it ended while nobody listened
                    self.announce_exit(task, exit);
                }
            }
            Err(error) if error.is_not_found() || marked => {
                tracing::info!(id, namespace, %error, "ending a shim that has no task");
                if task.claim_ending() {
                    if marked { self.tear_down(task).await } else { self.abandon(task).await }
                }
            }
            Err(error) => tracing::warn!(id, namespace, %error, "shim does not say its state"),
        }
    }

    fn program_by_record(&self, bundle: &Bundle) -> Option<std::path::PathBuf> {
        let container = self.shared.containers.container(&bundle.namespace, &bundle.id);
        match container {
            Ok(container) => self.shared.config.runtimes.resolve(&container.runtime).ok(),
            Err(error) if error.kind == Kind::NotFound => None,
            Err(error) => {
                tracing::warn!(id = bundle.id, namespace = bundle.namespace, %error, "failed to read container");
                None
            }
        }
    }
}

/// Removes work folders whose bundles did not survive the machine's restart.
fn sweep_work(root: &Path, bundles: &[Bundle]) {
    let kept: HashSet<&Path> = bundles.iter().map(|bundle| bundle.work.as_path()).collect();
    for namespace in bundle::folders(root).unwrap_or_default() {
        let namespace = root.join(namespace);
        for id in bundle::folders(&namespace).unwrap_or_default() {
            let work = namespace.join(id);
            if !kept.contains(work.as_path())
                && let Err(error) = std::fs::remove_dir_all(&work)
            {
                tracing::warn!(path = %work.display(), %error, "failed to remove stale work folder");
            }
        }
    }
}

async fn sweep(bundle: Bundle) -> Found {
    if let Err(error) = blocking(&bundle, Bundle::remove).await {
        tracing::error!(id = bundle.id, namespace = bundle.namespace, %error, "failed to remove bundle");
    }
    Found::Swept
}
