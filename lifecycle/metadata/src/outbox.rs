//! The outbox: what happened to records, written in the transaction that made it happen, and delivered afterwards.
//!
//! Delivery is in the order of the transactions and at least once. An event stays on disk for a moment after it was
//! handed over, since who got it may not have read it: after a crash it is there again.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use wharf_failpoints::{Point, hit};
use wharf_store::{StoreError, Write};
use wharf_vocab::Labels;

use crate::records::Runtime;
use crate::tables::OUTBOX;
use crate::{Metadata, MetadataError};

/// How long a delivered event is kept for a subscriber that comes back after a crash.
const KEPT: Duration = Duration::from_secs(1);
/// How long after a start those of the last run are kept.
pub const LEFT_OVER: Duration = Duration::from_secs(10);
/// Events of the last run that are delivered again at most; the newest.
const MOST_LEFT_OVER: usize = 4096;
/// Wait after the database could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// What happened to a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    NamespaceCreated { labels: Labels },
    NamespaceUpdated { labels: Labels },
    NamespaceDeleted,
    ContainerCreated { id: String, image: String, runtime: Runtime },
    ContainerUpdated { id: String, image: String, labels: Labels, snapshot_key: String },
    ContainerDeleted { id: String },
    ImageCreated { name: String, labels: Labels },
    ImageUpdated { name: String, labels: Labels },
    ImageDeleted { name: String },
    ContentCreated { digest: String, size: u64 },
    ContentDeleted { digest: String },
    SnapshotPrepared { snapshotter: String, key: String, parent: String },
    SnapshotCommitted { snapshotter: String, key: String, name: String },
    SnapshotRemoved { snapshotter: String, key: String },
}

/// A change with where and when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub namespace: String,
    pub at: SystemTime,
    pub change: Change,
}

/// What writers and the deliverer share.
#[derive(Default)]
pub(crate) struct Outbox {
    /// The latest number given. Writers are alone when they take one; a number of an undone change is never used.
    newest: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Everything up to here is on disk or was undone.
    durable: u64,
    /// Handed over, and when each may be removed.
    delivered: VecDeque<(u64, Instant)>,
    /// Everything up to here is removed.
    pruned: u64,
    stop: bool,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // plain numbers, whole at every instant
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what was delivered long enough ago. The number to report once that is on disk.
    fn prune(&self, tx: &Write, now: Instant) -> Result<u64, StoreError> {
        let (from, to) = {
            let state = self.state();
            let due = state.delivered.iter().take_while(|(_, due)| *due <= now).last();
            (state.pruned, due.map_or(state.pruned, |(number, _)| *number))
        };
        for number in from + 1..=to {
            OUTBOX.remove(tx, &[&key(number)])?;
        }
        Ok(to)
    }

    fn settled(&self, durable: u64, pruned: u64) {
        let mut state = self.state();
        state.pruned = state.pruned.max(pruned);
        while state.delivered.front().is_some_and(|(number, _)| *number <= pruned) {
            state.delivered.pop_front();
        }
        if durable > state.durable {
            state.durable = durable;
            drop(state);
            self.changed.notify_all();
        }
    }
}

/// Keys sort as their numbers.
fn key(number: u64) -> String {
    format!("{number:020}")
}

impl Metadata {
    /// As [`wharf_store::Database::write`]; events announced in the transaction are delivered once it is on disk.
    pub(crate) fn change<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Write) -> Result<T, E>,
    ) -> Result<T, E> {
        let value = self.settle(change)?;
        self.dirty.mutated();
        Ok(value)
    }

    /// As [`Metadata::change`], for records that nothing on the disk depends on: see
    /// [`write_ahead`](wharf_store::Database::write_ahead).
    pub(crate) fn change_ahead<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Write) -> Result<T, E>,
    ) -> Result<T, E> {
        let committed = self.db.write_ahead(|tx| self.with_outbox(tx, change))?;
        let value = self.delivered_from(committed);
        self.dirty.mutated();
        Ok(value)
    }

    /// The same for the collector's own affairs, which call for no collection.
    pub(crate) fn settle<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Write) -> Result<T, E>,
    ) -> Result<T, E> {
        let committed = self.db.write(|tx| self.with_outbox(tx, change))?;
        Ok(self.delivered_from(committed))
    }

    /// Makes a change. With what it returns: the latest event's number, and up to where events were removed.
    fn with_outbox<T, E: From<StoreError>>(
        &self,
        tx: &Write,
        change: impl FnOnce(&Write) -> Result<T, E>,
    ) -> Result<(T, u64, u64), E> {
        let before = self.outbox.newest.load(Ordering::Acquire);
        let value = change(tx)?;
        let newest = self.outbox.newest.load(Ordering::Acquire);
        let pruned = if newest > before { self.outbox.prune(tx, Instant::now())? } else { 0 };
        Ok((value, newest, pruned))
    }

    fn delivered_from<T>(&self, (value, durable, pruned): (T, u64, u64)) -> T {
        self.outbox.settled(durable, pruned);
        value
    }

    /// Notes an event in the transaction that makes it true.
    pub(crate) fn announce(&self, tx: &Write, namespace: &str, change: Change) -> Result<(), StoreError> {
        let number = self.outbox.newest.load(Ordering::Acquire) + 1;
        let event = Event { namespace: namespace.into(), at: SystemTime::now(), change };
        OUTBOX.put(tx, &[&key(number)], &event)?;
        self.outbox.newest.store(number, Ordering::Release);
        Ok(())
    }

    /// Starts to deliver. `left` gets what the last run may not have delivered, in order, before this returns; `each`
    /// then gets every event once, in order, on a thread of its own, and must not block.
    pub fn deliver(
        &self,
        left: impl FnOnce(Vec<Event>),
        each: impl Fn(Event) + Send + 'static,
    ) -> Result<Delivery, DeliverError> {
        let delivered = self.outbox.state().durable;
        let mut events =
            OUTBOX.list(&self.db.view().map_err(MetadataError::from)?, &[]).map_err(MetadataError::from)?;
        events.retain(|(key, _)| {
            key[0].parse::<u64>().is_ok_and(|number| number > delivered || delivered == 0)
        });
        if let Some(first_kept) = events.len().checked_sub(MOST_LEFT_OVER) {
            events.drain(..first_kept);
        }
        left(events.into_iter().map(|(_, event)| event).collect());
        let last = self.outbox.newest.load(Ordering::Acquire);
        if last > 0 {
            self.outbox.state().delivered.push_back((last, Instant::now() + LEFT_OVER));
        }
        let metadata = self.clone();
        let thread = std::thread::Builder::new()
            .name("outbox".into())
            .spawn(move || metadata.run_outbox(last, &each))
            .map_err(DeliverError::Thread)?;
        Ok(Delivery { outbox: Arc::clone(&self.outbox), thread: Some(thread) })
    }

    /// Continues the numbers of the last run.
    pub(crate) fn open_outbox(&self) -> Result<(), StoreError> {
        let keys = OUTBOX.keys(&self.db.view()?, &[])?;
        let number = |key: Option<&Vec<String>>| key.and_then(|key| key[0].parse::<u64>().ok());
        let newest = number(keys.last()).unwrap_or(0);
        self.outbox.newest.store(newest, Ordering::Release);
        let mut state = self.outbox.state();
        state.pruned = number(keys.first()).unwrap_or(1).saturating_sub(1);
        Ok(())
    }

    fn run_outbox(&self, mut last: u64, each: &impl Fn(Event)) {
        while let Some(durable) = self.wait_for_events(last) {
            if durable > last {
                match self.events(last + 1, durable) {
                    Ok(events) => {
                        for event in events {
                            hit(Point::EventsPublish);
                            each(event);
                            hit(Point::EventsDeliver);
                        }
                        last = durable;
                        self.outbox.state().delivered.push_back((last, Instant::now() + KEPT));
                    }
                    Err(error) => {
                        tracing::error!(%error, "reading the outbox");
                        std::thread::park_timeout(RETRY);
                    }
                }
                continue;
            }
            let pruned = self.db.write(|tx| self.outbox.prune(tx, Instant::now()));
            match pruned {
                Ok(pruned) => self.outbox.settled(0, pruned),
                Err(error) => {
                    tracing::error!(%error, "removing delivered events");
                    std::thread::park_timeout(RETRY);
                }
            }
        }
    }

    fn events(&self, from: u64, to: u64) -> Result<Vec<Event>, StoreError> {
        let view = self.db.view()?;
        let mut events = Vec::new();
        for number in from..=to {
            // a number without an event is one of an undone change
            events.extend(OUTBOX.get(&view, &[&key(number)])?);
        }
        Ok(events)
    }

    /// The number up to which events can be delivered; `last` again if there is only something to remove.
    fn wait_for_events(&self, last: u64) -> Option<u64> {
        let mut state = self.outbox.state();
        loop {
            if state.stop {
                return None;
            }
            if state.durable > last {
                return Some(state.durable);
            }
            let now = Instant::now();
            // when nothing else happens, all that is due goes in one transaction
            let due = state.delivered.back().map(|(_, due)| due.saturating_duration_since(now));
            if due == Some(Duration::ZERO) {
                return Some(last);
            }
            let limit = due.unwrap_or(Duration::from_secs(3600));
            state = self.outbox.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Why nothing is delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    #[error("read the outbox: {0}")]
    Read(#[from] MetadataError),
    #[error("start the outbox's thread: {0}")]
    Thread(#[source] io::Error),
}

/// Delivers until it is dropped.
pub struct Delivery {
    outbox: Arc<Outbox>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.outbox.state().stop = true;
        self.outbox.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
