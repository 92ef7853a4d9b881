//! Events are on disk with what they tell of, and come in order.

use std::sync::mpsc;

use super::*;
use crate::{Metadata, MetadataError};

const SOON: Duration = Duration::from_secs(60);

fn made(metadata: &Metadata, name: &str) {
    metadata.namespaces().create(name, Labels::new()).expect("namespace");
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.namespace.as_str()).collect()
}

#[test]
fn events_come_in_order_and_an_undone_change_has_none() {
    let at = tempfile::tempdir().expect("folder");
    let metadata = Metadata::open(at.path()).expect("open");
    let (tx, rx) = mpsc::channel();
    let delivery =
        metadata.deliver(|left| assert!(left.is_empty()), move |event| tx.send(event).expect("awaited"));
    made(&metadata, "a");
    let undone: Result<(), MetadataError> = metadata.change(|tx| {
        metadata.announce(tx, "never", Change::NamespaceDeleted)?;
        Err(MetadataError::Invalid("no".into()))
    });
    undone.expect_err("undone");
    made(&metadata, "a-second-time-is-refused");
    metadata.namespaces().create("a", Labels::new()).expect_err("exists");
    metadata.namespaces().delete("a").expect("empty");
    let events: Vec<_> = (0..3).map(|_| rx.recv_timeout(SOON).expect("event")).collect();
    assert_eq!(names(&events), ["a", "a-second-time-is-refused", "a"]);
    assert_eq!(events[2].change, Change::NamespaceDeleted);
    drop(delivery);
    assert!(rx.try_recv().is_err(), "nothing twice, nothing of what was undone");
}

#[test]
fn events_of_a_run_that_broke_off_are_left_for_the_next() {
    let at = tempfile::tempdir().expect("folder");
    let metadata = Metadata::open(at.path()).expect("open");
    // nobody delivers in this run
    for name in ["a", "b", "c"] {
        made(&metadata, name);
    }
    drop(metadata);
    let metadata = Metadata::open(at.path()).expect("open again");
    let (tx, rx) = mpsc::channel();
    let mut seen = Vec::new();
    let delivery =
        metadata.deliver(|left| seen = left, move |event| tx.send(event).expect("awaited")).expect("deliver");
    assert_eq!(names(&seen), ["a", "b", "c"]);
    made(&metadata, "d");
    assert_eq!(rx.recv_timeout(SOON).expect("event").namespace, "d");
    drop(delivery);
}

#[test]
fn delivered_events_leave_the_disk() {
    let at = tempfile::tempdir().expect("folder");
    let metadata = Metadata::open(at.path()).expect("open");
    let _delivery = metadata.deliver(|_| {}, drop).expect("deliver");
    made(&metadata, "a");
    let deadline = Instant::now() + SOON;
    loop {
        let left = OUTBOX.keys(&metadata.db.view().expect("view"), &[]).expect("keys");
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{left:?}");
        std::thread::yield_now();
    }
}
