//! When collections run: shortly after deletions, when something expires, and when somebody asks.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use wharf_failpoints::{Point, hit};
use wharf_kinds::Kind;

use super::{GATHER, OnRemoved, Reclaim, Removed};
use crate::Metadata;
use crate::error::MetadataError;

/// After a failed collection the next one waits so long, unless something else calls for it.
const RETRY: Duration = Duration::from_secs(60);

/// The shortest collection that the pause threshold reckons with.
const SHORTEST: Duration = Duration::from_millis(5);

/// When collections run, in containerd's terms (`plugins."io.containerd.gc.v1.scheduler"`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The part of the time that collections may take, 0 (no such limit) to 0.5.
    pub pause_threshold: f64,
    /// Deletions after which a collection is due whatever the pause threshold says; 0 for never. Fewer are collected
    /// as well, when the pause threshold allows.
    pub deletion_threshold: u64,
    /// Changes of any kind after which a collection is due, when the pause threshold allows; 0 for never.
    pub mutation_threshold: u64,
    /// How long to wait with a collection that is due at once.
    pub delay: Duration,
}

impl Default for Schedule {
    /// containerd's values.
    fn default() -> Self {
        Schedule {
            pause_threshold: 0.02,
            deletion_threshold: 0,
            mutation_threshold: 100,
            delay: Duration::ZERO,
        }
    }
}

impl Schedule {
    /// How long to pause after collections that took so long on average.
    pub(super) fn pause_after(&self, average: Duration) -> Duration {
        let threshold = self.pause_threshold.clamp(0.0, 0.5);
        if threshold == 0.0 || threshold.is_nan() {
            return Duration::from_secs(1);
        }
        let average = average.max(SHORTEST).as_secs_f64();
        Duration::try_from_secs_f64(average / threshold - average).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE)
    }
}

/// However long collections take, the next one is not later than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What one collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records removed.
    pub records: usize,
    /// Blobs, ingests and directories removed.
    pub reclaimed: u64,
    pub took: Duration,
    /// Of that, how long changes of records had to wait.
    pub paused: Duration,
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

/// Hears how each collection went.
type Observer = Box<dyn Fn(&Result<Stats, CollectError>) + Send + Sync>;

struct Worker {
    metadata: Metadata,
    stores: Vec<Arc<dyn Reclaim>>,
    schedule: Schedule,
    on_removed: OnRemoved,
    observer: OnceLock<Observer>,
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
        schedule: Schedule,
        on_removed: impl Fn(&[Removed]) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        metadata.dirty.change(|signal| signal.heed_mutations = schedule.mutation_threshold);
        let worker = Arc::new(Worker {
            metadata,
            stores,
            schedule,
            on_removed: Arc::new(on_removed),
            observer: OnceLock::new(),
            results: Mutex::default(),
            finished: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("collector".into()).spawn({
            let worker = Arc::clone(&worker);
            move || worker.run()
        })?;
        Ok(Collector(Arc::new(Handle { worker, thread: Some(thread) })))
    }

    /// Has every collection from now on told, on the collector's thread. Only the first observer is kept.
    pub fn observe(&self, observer: impl Fn(&Result<Stats, CollectError>) + Send + Sync + 'static) {
        let _ = self.0.worker.observer.set(Box::new(observer));
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
        let (mut spent, mut collections) = (Duration::ZERO, 0);
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
            if let Some(observer) = self.observer.get() {
                observer(&outcome);
            }
            spent += outcome.as_ref().map_or_else(|_| began.elapsed(), |stats| stats.paused);
            collections += 1;
            not_before = Instant::now() + self.schedule.pause_after(spent / collections);
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
        let mut at_once: Option<Instant> = None;
        let Schedule { deletion_threshold, mutation_threshold, delay, .. } = self.schedule;
        let reached = |count: u64, threshold: u64| threshold > 0 && count >= threshold;
        loop {
            if signal.stop {
                return None;
            }
            let now = Instant::now();
            let expiry_in = signal.expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
            if signal.deletions > 0
                || reached(signal.mutations, mutation_threshold)
                || expiry_in == Some(Duration::ZERO)
            {
                gather_until.get_or_insert((now + GATHER).max(not_before));
            }
            if signal.requested > answered || reached(signal.deletions, deletion_threshold) {
                at_once.get_or_insert(now + delay);
            }
            if at_once.is_some_and(|at| at <= now) || gather_until.is_some_and(|at| at <= now) {
                signal.deletions = 0;
                signal.mutations = 0;
                // what expires later is found again by the collection that comes now
                signal.expires = None;
                return Some(signal.requested);
            }
            let due = gather_until.into_iter().chain(at_once).map(|at| at - now);
            let limit = due.chain(expiry_in.filter(|d| !d.is_zero())).min();
            // re-reading the clock now and then follows a clock that was set
            signal = dirty.wait(signal, limit.unwrap_or(Duration::MAX).min(Duration::from_secs(60)));
        }
    }

    fn collect(&self, began: Instant) -> Result<Stats, CollectError> {
        let swept = self.metadata.sweep(SystemTime::now());
        let paused = began.elapsed();
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
        Ok(Stats { records: swept.removed.len(), reclaimed, took: began.elapsed(), paused })
    }
}
