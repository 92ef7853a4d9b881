//! Random sequences of operations, broken off between their steps, against a model: after each start every record has
//! its directory, every directory its record, and the collector keeps what something refers to and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use lifecycle_metadata::{Collector, Commit, Metadata, Reclaim, Scope, SnapshotKind};
use lifecycle_snapshots::{OVERLAYFS, Snapshotter};
use proptest::prelude::*;
use wharf_vocab::Labels;

/// Names are few, so that operations meet.
#[derive(Debug, Clone)]
enum Step {
    Prepare { key: u8, parent: Option<u8>, rooted: bool },
    Commit { key: u8, name: u8 },
    Remove { name: u8 },
    Collect,
    Crash(Crash),
}

/// Where an operation was broken off. The daemon starts again afterwards.
#[derive(Debug, Clone)]
enum Crash {
    /// The directory of a new snapshot is in place, its record is not.
    PreparePlaced,
    /// A record is gone, its directory is not.
    RemoveRecorded { name: u8 },
    /// The directory of a removed snapshot has been renamed, not emptied.
    RemoveRenamed,
    /// A commit is recorded and nobody was told.
    CommitRecorded { key: u8, name: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..6u8;
    prop_oneof![
        4 => (name(), proptest::option::of(name()), any::<bool>())
            .prop_map(|(key, parent, rooted)| Step::Prepare { key, parent, rooted }),
        3 => (name(), name()).prop_map(|(key, name)| Step::Commit { key, name }),
        2 => name().prop_map(|name| Step::Remove { name }),
        1 => Just(Step::Collect),
        1 => Just(Step::Crash(Crash::PreparePlaced)),
        1 => name().prop_map(|name| Step::Crash(Crash::RemoveRecorded { name })),
        1 => Just(Step::Crash(Crash::RemoveRenamed)),
        1 => (name(), name()).prop_map(|(key, name)| Step::Crash(Crash::CommitRecorded { key, name })),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    parent: String,
    committed: bool,
    rooted: bool,
}

/// What there should be.
#[derive(Debug, Default)]
struct Model(BTreeMap<String, Record>);

impl Model {
    fn prepare(&mut self, key: &str, parent: &str, rooted: bool) -> bool {
        let has_parent = parent.is_empty() || self.0.get(parent).is_some_and(|record| record.committed);
        if self.0.contains_key(key) || !has_parent {
            return false;
        }
        self.0.insert(key.into(), Record { parent: parent.into(), committed: false, rooted });
        true
    }

    fn commit(&mut self, name: &str, key: &str) -> bool {
        if self.0.contains_key(name) || self.0.get(key).is_none_or(|record| record.committed) {
            return false;
        }
        let Some(record) = self.0.remove(key) else { return false };
        self.0.insert(name.into(), Record { committed: true, rooted: false, ..record });
        true
    }

    fn remove(&mut self, name: &str) -> bool {
        let has_child = self.0.values().any(|record| record.parent == name);
        !has_child && self.0.remove(name).is_some()
    }

    fn collect(&mut self) {
        let mut live = BTreeSet::new();
        for (name, _) in self.0.iter().filter(|(_, record)| record.rooted) {
            let mut at = name.clone();
            while !at.is_empty() && live.insert(at.clone()) {
                at = self.0[&at].parent.clone();
            }
        }
        self.0.retain(|name, _| live.contains(name));
    }
}

fn scope() -> Scope {
    Scope::new("default", None)
}

struct World {
    snapshotter: Snapshotter,
    metadata: Metadata,
    collector: Collector,
}

fn start(root: &Path) -> World {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let metadata = Metadata::open(root).unwrap();
    let snapshotter = Snapshotter::open(&root.join("s"), metadata.clone()).unwrap();
    let stores: Vec<Arc<dyn Reclaim>> = vec![Arc::new(snapshotter.clone())];
    let collector =
        Collector::start(metadata.clone(), stores, lifecycle_metadata::Schedule::default(), |_| ()).unwrap();
    World { snapshotter, metadata, collector }
}

fn directories(root: &Path) -> BTreeSet<String> {
    let all = std::fs::read_dir(root.join("s")).unwrap();
    all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn check(world: &World, model: &Model, root: &Path) {
    let listed = world.snapshotter.list(&scope(), &[]).unwrap();
    let found: BTreeMap<String, Record> = listed
        .iter()
        .map(|info| {
            let record = Record {
                parent: info.record.parent.clone(),
                committed: info.record.kind == SnapshotKind::Committed,
                rooted: info.record.labels.contains_key("containerd.io/gc.root"),
            };
            (info.name.clone(), record)
        })
        .collect();
    assert_eq!(found, model.0);
    let ids: BTreeSet<String> = listed.iter().map(|info| info.record.id.to_string()).collect();
    assert_eq!(directories(root), ids, "a record for every directory, and the reverse");
}

fn run(steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mut world = start(root);
    let mut model = Model::default();
    let named = |name: &u8| format!("n{name}");
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Prepare { key, parent, rooted } => {
                let parent = parent.as_ref().map(named).unwrap_or_default();
                let mut labels = Labels::new();
                if *rooted {
                    labels.insert("containerd.io/gc.root".into(), "now".into());
                }
                let done = world.snapshotter.prepare(&scope(), &named(key), &parent, labels).is_ok();
                assert_eq!(done, model.prepare(&named(key), &parent, *rooted), "{step:?}");
            }
            Step::Commit { key, name } => {
                let (key, name) = (named(key), named(name));
                let done = world.snapshotter.commit(&scope(), &name, &key, "", Labels::new()).is_ok();
                assert_eq!(done, model.commit(&name, &key), "{step:?}");
            }
            Step::Remove { name } => {
                let done = world.snapshotter.remove(&scope(), &named(name)).is_ok();
                assert_eq!(done, model.remove(&named(name)), "{step:?}");
                // deletions make the collector look by itself: from here on it has
                world.collector.collect().unwrap();
                model.collect();
            }
            Step::Collect => {
                world.collector.collect().unwrap();
                model.collect();
            }
            Step::Crash(crash) => {
                let records = world.metadata.snapshots();
                match crash {
                    Crash::PreparePlaced => {
                        std::fs::create_dir_all(root.join(format!("s/{}/fs/a", 10_000 + number))).unwrap();
                    }
                    Crash::RemoveRecorded { name } => {
                        let done = records.remove(&scope(), OVERLAYFS, &named(name)).is_ok();
                        assert_eq!(done, model.remove(&named(name)), "{step:?}");
                        world.collector.collect().unwrap();
                        model.collect();
                    }
                    Crash::RemoveRenamed => {
                        std::fs::create_dir_all(root.join(format!("s/removing-{number}/fs/a"))).unwrap();
                    }
                    Crash::CommitRecorded { key, name } => {
                        let (key, name) = (named(key), named(name));
                        let commit = Commit { name: &name, key: &key, parent: "", labels: Labels::new() };
                        let done = records.commit(&scope(), OVERLAYFS, commit).is_ok();
                        assert_eq!(done, model.commit(&name, &key), "{step:?}");
                    }
                }
                drop(world);
                world = start(root);
            }
        }
        check(&world, &model, root);
    }
    // numbers of directories that are gone do not come back
    let highest = directories(root).iter().filter_map(|name| name.parse::<u64>().ok()).max();
    world.snapshotter.prepare(&scope(), "last", "", Labels::new()).unwrap();
    let id = world.snapshotter.stat(&scope(), "last").unwrap().record.id;
    assert!(highest.is_none_or(|highest| id > highest));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases((ProptestConfig::default().cases / 10).max(1)))]
    #[test]
    fn root_nothing_is_lost_or_left_whenever_it_is_broken_off(steps in proptest::collection::vec(step(), 1..24)) {
        run(&steps);
    }
}
