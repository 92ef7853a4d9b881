//! Garbage collections, under containerd's names.

use std::sync::{Mutex, PoisonError};

use lifecycle_metadata::{CollectError, Stats};

use super::exposition::{Exposition, Histogram, Kind};

/// What is known of the collections so far.
#[derive(Default)]
pub(crate) struct Collections(Mutex<Counts>);

#[derive(Default, Clone, Copy)]
struct Counts {
    failed: u64,
    succeeded: u64,
    durations: Histogram,
}

impl Collections {
    /// Counts one.
    pub(crate) fn count(&self, outcome: &Result<Stats, CollectError>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(stats) => {
                counts.succeeded += 1;
                counts.durations.observe(stats.took.as_secs_f64());
            }
            Err(_) => counts.failed += 1,
        }
    }

    pub(crate) fn write(&self, to: &mut Exposition) {
        let counts = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (status, count) in [("fail", counts.failed), ("success", counts.succeeded)] {
            let help = "counter of gc scheduler collections";
            let labels = [("status", status)];
            to.sample("containerd_gc_collections_total", help, Kind::Counter, &labels, count as f64);
        }
        let help = "duration of gc scheduler collections";
        to.histogram("containerd_gc_gc_seconds", help, &[], &counts.durations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collections_are_counted_by_outcome() {
        let collections = Collections::default();
        let stats = Stats { took: std::time::Duration::from_millis(30), ..Stats::default() };
        collections.count(&Ok(stats));
        collections.count(&Err(CollectError::Stopped));
        let mut to = Exposition::default();
        collections.write(&mut to);
        let text = to.render();
        for line in [
            "containerd_gc_collections_total{status=\"success\"} 1",
            "containerd_gc_collections_total{status=\"fail\"} 1",
            "containerd_gc_gc_seconds_bucket{le=\"0.025\"} 0",
            "containerd_gc_gc_seconds_bucket{le=\"0.05\"} 1",
            "containerd_gc_gc_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
