//! When collections run: shortly after deletions, when something expires, and when somebody asks.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use wharf_failpoints::{Point, hit};
use wharf_kinds::Kind;

use super::{GATHER, OnRemoved, PAUSE_FACTOR, Reclaim, Removed};
use crate::Metadata;
use crate::error::MetadataError;

/// After a failed collection the next one waits so long, unless something else calls for it.
const RETRY: Duration = Duration::from_secs(60);

/// What one collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records removed.
    pub records: usize,
    /// Blobs, ingests and directories removed.
    pub reclaimed: u64,
    pub took: Duration,
}

/// Why a collection that somebody waited for did not finish.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CollectError {
    #[error("garbage collection failed: {text}")]
    Failed { kind: Kind, text: String },
    #[error("garbage collection has stopped: unavailable")]
    Stopped,
}

impl CollectError {
    pub fn kind(&self) -> Kind {
        match self {
            CollectError::Failed { kind, .. } => *kind,
            CollectError::Stopped => Kind::Unavailable,
        }
    }
}

/// The collector's thread; it ends when the last handle is dropped.
#[derive(Clone)]
pub struct Collector(Arc<Handle>);

struct Handle {
    worker: Arc<Worker>,
    thread: Option<JoinHandle<()>>,
}

struct Worker {
    metadata: Metadata,
    stores: Vec<Arc<dyn Reclaim>>,
    on_removed: OnRemoved,
    results: Mutex<Results>,
    finished: Condvar,
}

#[derive(Default)]
struct Results {
    /// The number of requests that the latest collection answers.
    answered: u64,
    latest: Option<Result<Stats, CollectError>>,
    stopped: bool,
}

impl Collector {
    /// Starts the thread. Nothing is collected before something is deleted, expires or is asked for: a start asks,
    /// before it serves, to clear what a crash left. `on_removed` hears of records removed, after they are gone.
    pub fn start(
        metadata: Metadata,
        stores: Vec<Arc<dyn Reclaim>>,
        on_removed: impl Fn(&[Removed]) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let worker = Arc::new(Worker {
            metadata,
            stores,
            on_removed: Arc::new(on_removed),
            results: Mutex::default(),
            finished: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("collector".into()).spawn({
            let worker = Arc::clone(&worker);
            move || worker.run()
        })?;
        Ok(Collector(Arc::new(Handle { worker, thread: Some(thread) })))
    }

    /// Runs a collection that begins after this call, and waits for it.
    pub fn collect(&self) -> Result<Stats, CollectError> {
        let worker = &self.0.worker;
        let mut number = 0;
        worker.metadata.dirty.change(|signal| {
            signal.requested += 1;
            number = signal.requested;
        });
        let mut results = worker.results.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if results.answered >= number {
                return results.latest.clone().unwrap_or(Err(CollectError::Stopped));
            }
            if results.stopped {
                return Err(CollectError::Stopped);
            }
            results = worker.finished.wait(results).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.worker.metadata.dirty.change(|signal| signal.stop = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn run(&self) {
        let mut answered = 0;
        let mut not_before = Instant::now();
        while let Some(asked) = self.wait_for_work(answered, not_before) {
            let began = Instant::now();
            let outcome = self.collect(began);
            match &outcome {
                Ok(stats) if stats.records > 0 || stats.reclaimed > 0 => {
                    tracing::debug!(
                        records = stats.records,
                        reclaimed = stats.reclaimed,
                        "collected garbage"
                    );
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "collecting garbage");
                    self.metadata.dirty.expires(SystemTime::now().checked_add(RETRY));
                }
            }
            not_before = Instant::now() + began.elapsed() * PAUSE_FACTOR;
            answered = asked;
            let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
            results.answered = asked;
            results.latest = Some(outcome);
            drop(results);
            self.finished.notify_all();
        }
        self.results.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.finished.notify_all();
    }

    /// The number of the latest request, once there is a reason to collect; `None` to stop.
    fn wait_for_work(&self, answered: u64, not_before: Instant) -> Option<u64> {
        let dirty = &self.metadata.dirty;
        let mut signal = dirty.lock();
        let mut gather_until: Option<Instant> = None;
        loop {
            if signal.stop {
                return None;
            }
            let now = Instant::now();
            let expiry_in = signal.expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
            if signal.deletions > 0 || expiry_in == Some(Duration::ZERO) {
                gather_until.get_or_insert((now + GATHER).max(not_before));
            }
            if signal.requested > answered || gather_until.is_some_and(|at| at <= now) {
                signal.deletions = 0;
                // what expires later is found again by the collection that comes now
                signal.expires = None;
                return Some(signal.requested);
            }
            let until_gathered = gather_until.map(|at| at - now);
            let limit = until_gathered.into_iter().chain(expiry_in.filter(|d| !d.is_zero())).min();
            // re-reading the clock now and then follows a clock that was set
            signal = dirty.wait(signal, limit.unwrap_or(Duration::MAX).min(Duration::from_secs(60)));
        }
    }

    fn collect(&self, began: Instant) -> Result<Stats, CollectError> {
        let swept = self.metadata.sweep(SystemTime::now());
        if let Ok(swept) = &swept {
            self.metadata.dirty.expires(swept.next_expiry);
            if !swept.removed.is_empty() {
                (self.on_removed)(&swept.removed);
            }
        }
        hit(Point::CollectorSweep);
        let mut reclaimed = 0;
        let mut trouble = Vec::new();
        // also after a failed sweep: on a full disk the bytes that lost their records earlier make room for the next
        for store in &self.stores {
            match store.reclaim() {
                Ok(count) => reclaimed += count,
                Err(error) => trouble.push(format!("{}: {error}", store.name())),
            }
        }
        let failed = |e: MetadataError| CollectError::Failed { kind: e.kind(), text: e.to_string() };
        let swept = swept.map_err(failed)?;
        if !trouble.is_empty() {
            return Err(CollectError::Failed { kind: Kind::Internal, text: trouble.join("; ") });
        }
        Ok(Stats { records: swept.removed.len(), reclaimed, took: began.elapsed() })
    }
}
