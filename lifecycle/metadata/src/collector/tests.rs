use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use wharf_vocab::{Digest, Labels};

use super::*;
use crate::{
    Container, Descriptor, Image, NewSnapshot, Resource, Runtime, Scope, SnapshotKind, records::AnyValue,
};

const SNAPSHOTTER: &str = "overlayfs";

/// Things by number, so that chance can join any two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Blob(u8),
    Layer(u8),
    Image(u8),
}

#[derive(Debug, Clone)]
struct World {
    /// For each blob what its labels hold, and whether it is a root.
    blobs: Vec<(Vec<Thing>, bool)>,
    /// For each snapshot its parent among the earlier ones, and what its labels hold.
    layers: Vec<(Option<u8>, Vec<Thing>)>,
    /// For each image its target and whether it has expired.
    images: Vec<(u8, bool)>,
    /// Snapshots that containers have.
    containers: Vec<u8>,
    /// What leases hold, whether they are flat, whether they have expired.
    leases: Vec<(Vec<Thing>, bool, bool)>,
    /// Blobs that hang on to others by a back reference.
    back: Vec<(u8, Thing)>,
}

const COUNT: u8 = 6;

fn thing() -> impl Strategy<Value = Thing> {
    (0..COUNT, 0..3u8).prop_map(|(number, kind)| match kind {
        0 => Thing::Blob(number),
        1 => Thing::Layer(number),
        _ => Thing::Image(number),
    })
}

fn things(most: usize) -> impl Strategy<Value = Vec<Thing>> {
    proptest::collection::vec(thing(), 0..most)
}

fn world() -> impl Strategy<Value = World> {
    let n = COUNT as usize;
    let blobs = proptest::collection::vec((things(3), proptest::bool::weighted(0.1)), n);
    let layers = proptest::collection::vec((proptest::option::of(any::<u8>()), things(2)), n);
    let images = proptest::collection::vec((0..COUNT, any::<bool>()), 0..n);
    let containers = proptest::collection::vec(0..COUNT, 0..2);
    let leases = proptest::collection::vec((things(3), any::<bool>(), proptest::bool::weighted(0.3)), 0..3);
    let back = proptest::collection::vec((0..COUNT, thing()), 0..2);
    (blobs, layers, images, containers, leases, back).prop_map(
        |(blobs, mut layers, images, containers, leases, back)| {
            for (i, (parent, _)) in layers.iter_mut().enumerate() {
                *parent = parent.and_then(|p| (i > 0).then(|| p % i as u8));
            }
            World { blobs, layers, images, containers, leases, back }
        },
    )
}

fn digest(number: u8) -> Digest {
    Digest::sha256(&[number])
}

fn scope() -> Scope {
    Scope::new("default", None)
}

fn reference(labels: &mut Labels, prefix: &str, place: usize, thing: Thing) {
    let (name, value) = match thing {
        Thing::Blob(n) => (format!("{prefix}.content.{place}"), digest(n).to_string()),
        Thing::Layer(n) => (format!("{prefix}.snapshot.{SNAPSHOTTER}/{place}"), format!("s{n}")),
        Thing::Image(n) => (format!("{prefix}.image/{place}"), format!("i{n}")),
    };
    labels.insert(name, value);
}

fn build(world: &World, metadata: &Metadata) {
    let holding = |things: &[Thing]| {
        let mut labels = Labels::new();
        for (place, thing) in things.iter().enumerate() {
            reference(&mut labels, "containerd.io/gc.ref", place, *thing);
        }
        labels
    };
    for (n, (held, is_root)) in world.blobs.iter().enumerate() {
        let mut labels = holding(held);
        if *is_root {
            labels.insert("containerd.io/gc.root".into(), "now".into());
        }
        for (place, (_, holder)) in world.back.iter().enumerate().filter(|(_, (blob, _))| *blob as usize == n)
        {
            reference(&mut labels, "containerd.io/gc.bref", place, *holder);
        }
        metadata.content().commit(&scope(), "r", &digest(n as u8), 1, labels).unwrap();
    }
    for (n, (parent, held)) in world.layers.iter().enumerate() {
        let parent = parent.map(|p| format!("s{p}")).unwrap_or_default();
        let (key, name) = (format!("a{n}"), format!("s{n}"));
        let new = NewSnapshot {
            key: &key,
            parent: &parent,
            kind: SnapshotKind::Active,
            labels: Labels::new(),
            id: n as u64 + 1,
        };
        metadata.snapshots().create(&scope(), SNAPSHOTTER, new).unwrap();
        let commit = crate::Commit { name: &name, key: &key, parent: "", labels: holding(held) };
        metadata.snapshots().commit(&scope(), SNAPSHOTTER, commit).unwrap();
    }
    for (n, (target, expired)) in world.images.iter().enumerate() {
        let mut labels = Labels::new();
        let when = if *expired { "2001-01-01T00:00:00Z" } else { "2101-01-01T00:00:00Z" };
        labels.insert("containerd.io/gc.expire".into(), when.into());
        let target = Descriptor {
            media_type: "m".into(),
            digest: digest(*target),
            size: 1,
            annotations: Labels::new(),
        };
        let (created, updated) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
        let image = Image { name: format!("i{n}"), labels, target, created, updated };
        metadata.images().create(&scope(), image, None).unwrap();
    }
    for (n, layer) in world.containers.iter().enumerate() {
        let container = Container {
            id: format!("c{n}"),
            runtime: Runtime { name: "r".into(), options: None },
            spec: Some(AnyValue::default()),
            snapshotter: SNAPSHOTTER.into(),
            snapshot_key: format!("s{layer}"),
            ..Container::default()
        };
        metadata.containers().create(&scope(), container).unwrap();
    }
    for (n, (held, flat, expired)) in world.leases.iter().enumerate() {
        let mut labels = Labels::new();
        if *flat {
            labels.insert("containerd.io/gc.flat".into(), "1".into());
        }
        if *expired {
            labels.insert("containerd.io/gc.expire".into(), "2001-01-01T00:00:00+02:00".into());
        }
        let id = format!("l{n}");
        metadata.leases().create(&scope(), &id, labels).unwrap();
        for thing in held {
            let (kind, name) = match thing {
                Thing::Blob(n) => ("content".to_owned(), digest(*n).to_string()),
                Thing::Layer(n) => (format!("snapshots/{SNAPSHOTTER}"), format!("s{n}")),
                Thing::Image(n) => ("images".to_owned(), format!("i{n}")),
            };
            metadata.leases().add_resource(&scope(), &id, &Resource { kind, id: name }).unwrap();
        }
    }
}

/// What must live, by going round until nothing changes: slow, and hard to get wrong.
fn expected(world: &World) -> BTreeSet<Thing> {
    let mut full = BTreeSet::new();
    let mut flat = BTreeSet::new();
    for (n, (_, is_root)) in world.blobs.iter().enumerate() {
        if *is_root {
            full.insert(Thing::Blob(n as u8));
        }
    }
    full.extend((0..world.images.len() as u8).filter(|&n| !world.images[n as usize].1).map(Thing::Image));
    full.extend(world.containers.iter().map(|&n| Thing::Layer(n)));
    for (held, is_flat, expired) in &world.leases {
        if !expired {
            if *is_flat { flat.extend(held) } else { full.extend(held) }
        }
    }
    let own = |thing: &Thing| match *thing {
        Thing::Layer(n) => world.layers.get(n as usize).and_then(|(parent, _)| parent.map(Thing::Layer)),
        Thing::Image(n) => world.images.get(n as usize).map(|(target, _)| Thing::Blob(*target)),
        Thing::Blob(_) => None,
    };
    loop {
        let before = (full.len(), flat.len());
        for thing in full.clone() {
            full.extend(own(&thing));
            match thing {
                Thing::Blob(n) => full.extend(&world.blobs[n as usize].0),
                Thing::Layer(n) => full.extend(&world.layers[n as usize].1),
                Thing::Image(_) => {}
            }
            full.extend(
                world.back.iter().filter(|(_, holder)| *holder == thing).map(|(n, _)| Thing::Blob(*n)),
            );
        }
        for thing in flat.clone() {
            flat.extend(own(&thing));
        }
        if before == (full.len(), flat.len()) {
            full.extend(flat);
            full.retain(|thing| !matches!(thing, Thing::Image(n) if *n as usize >= world.images.len()));
            return full;
        }
    }
}

fn present(metadata: &Metadata) -> BTreeSet<Thing> {
    let mut out = BTreeSet::new();
    let by_digest: BTreeMap<_, _> = (0..COUNT).map(|n| (digest(n), n)).collect();
    let number = |name: &str| name[1..].parse().unwrap();
    let blobs = metadata.content().list(&scope(), &[]).unwrap();
    out.extend(blobs.into_iter().map(|info| Thing::Blob(by_digest[&info.digest])));
    let layers = metadata.snapshots().list(&scope(), SNAPSHOTTER, &[]).unwrap();
    out.extend(layers.into_iter().map(|info| Thing::Layer(number(&info.name))));
    let images = metadata.images().list(&scope(), &[]).unwrap();
    out.extend(images.into_iter().map(|image| Thing::Image(number(&image.name))));
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases((ProptestConfig::default().cases / 5).max(1)))]
    #[test]
    fn what_lives_is_what_something_refers_to(world in world()) {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(dir.path()).unwrap();
        build(&world, &metadata);
        let before = present(&metadata);
        let swept = metadata.sweep(SystemTime::now()).unwrap();
        prop_assert_eq!(present(&metadata), expected(&world));
        let leases = metadata.leases().list(&scope(), &[]).unwrap().len();
        prop_assert_eq!(leases, world.leases.iter().filter(|l| !l.2).count());
        let gone = before.len() - expected(&world).len() + world.leases.iter().filter(|l| l.2).count();
        prop_assert_eq!(swept.removed.len(), gone);
        prop_assert!(metadata.sweep(SystemTime::now()).unwrap().removed.is_empty(), "a second sweep finds nothing");
    }
}

fn open() -> (tempfile::TempDir, Metadata) {
    let dir = tempfile::tempdir().unwrap();
    let metadata = Metadata::open(dir.path()).unwrap();
    (dir, metadata)
}

#[test]
fn an_ingest_without_a_lease_lives_for_a_day() {
    let (_dir, metadata) = open();
    metadata.content().begin_ingest(&scope(), "r", 0, None, None).unwrap();
    let now = SystemTime::now();
    let swept = metadata.sweep(now).unwrap();
    assert!(swept.removed.is_empty());
    let expires = swept.next_expiry.unwrap().duration_since(now).unwrap();
    assert!(expires > Duration::from_secs(23 * 3600), "{expires:?}");
    let later = now + Duration::from_secs(25 * 3600);
    assert_eq!(metadata.sweep(later).unwrap().removed.len(), 1);
}

#[test]
fn a_collection_runs_by_itself_after_a_deletion() {
    let (_dir, metadata) = open();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let _collector = Collector::start(metadata.clone(), Vec::new(), Schedule::default(), move |all| {
        hears.lock().unwrap().extend_from_slice(all)
    })
    .unwrap();
    metadata.leases().create(&scope(), "l", Labels::new()).unwrap();
    let leased = Scope::new("default", Some("l".into()));
    metadata.content().commit(&leased, "r", &digest(1), 1, Labels::new()).unwrap();
    metadata.leases().delete(&scope(), "l").unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while metadata.content().info(&scope(), &digest(1)).is_ok() || heard.lock().unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "nothing was collected");
        std::thread::yield_now();
    }
}

#[test]
fn a_collection_runs_by_itself_when_a_lease_expires() {
    let (_dir, metadata) = open();
    let collector = Collector::start(metadata.clone(), Vec::new(), Schedule::default(), |_| ()).unwrap();
    // what was there at the start is done with
    collector.collect().unwrap();
    let soon = SystemTime::now() + Duration::from_millis(1200);
    let soon = jiff::Timestamp::try_from(soon).unwrap().to_string();
    let labels = Labels::from([("containerd.io/gc.expire".to_owned(), soon)]);
    metadata.leases().create(&scope(), "l", labels).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !metadata.leases().list(&scope(), &[]).unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the lease is still there");
        std::thread::yield_now();
    }
}

#[test]
fn a_failing_store_is_reported_to_who_asks() {
    struct Broken;
    impl Reclaim for Broken {
        fn name(&self) -> &'static str {
            "broken"
        }
        fn reclaim(&self) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
            Err("no disk".into())
        }
    }
    let (_dir, metadata) = open();
    let collector = Collector::start(metadata, vec![Arc::new(Broken)], Schedule::default(), |_| ()).unwrap();
    assert_eq!(collector.collect().unwrap_err().to_string(), "garbage collection failed: broken: no disk");
}

fn snapshot(metadata: &Metadata, key: &str, labels: Labels) {
    let number = metadata.snapshots().list(&scope(), SNAPSHOTTER, &[]).unwrap().len() as u64 + 1;
    let new = NewSnapshot { key, parent: "", kind: SnapshotKind::Active, labels, id: number };
    metadata.snapshots().create(&scope(), SNAPSHOTTER, new).unwrap();
}

fn label(name: &str, value: &str) -> Labels {
    Labels::from([(name.to_owned(), value.to_owned())])
}

#[test]
fn what_a_sandbox_refers_to_stays() {
    let (_dir, metadata) = open();
    snapshot(&metadata, "kept", Labels::new());
    snapshot(&metadata, "lost", Labels::new());
    let labels = label("containerd.io/gc.ref.snapshot.overlayfs", "kept");
    let sandbox = crate::Sandbox { id: "s".into(), labels, ..Default::default() };
    metadata.sandboxes().create(&scope(), sandbox).unwrap();
    let removed = metadata.sweep(SystemTime::now()).unwrap().removed;
    assert_eq!(removed.len(), 1, "{removed:?}");
    assert!(metadata.snapshots().get(&scope(), SNAPSHOTTER, "kept").is_ok());
}

#[test]
fn a_conditional_reference_holds_until_its_time() {
    let (_dir, metadata) = open();
    let now = SystemTime::now();
    let used = jiff::Timestamp::try_from(now).unwrap().to_string();
    for key in ["young", "unused"] {
        let labels =
            if key == "young" { label("containerd.io/gc.cond.value-usedat", &used) } else { Labels::new() };
        snapshot(&metadata, key, labels);
    }
    let mut labels = label("containerd.io/gc.cond.snapshot.overlayfs/a", "usedat<1h|young");
    labels.insert("containerd.io/gc.cond.snapshot.overlayfs/b".into(), "usedat<1h|unused".into());
    labels.insert("containerd.io/gc.root".into(), "yes".into());
    metadata.content().commit(&scope(), "r", &digest(1), 1, labels).unwrap();
    let swept = metadata.sweep(now + Duration::from_secs(60)).unwrap();
    assert_eq!(swept.removed.len(), 1, "{:?}", swept.removed);
    assert!(metadata.snapshots().get(&scope(), SNAPSHOTTER, "young").is_ok());
    let until = swept.next_expiry.expect("it ends").duration_since(now).unwrap();
    assert!((3590..=3600).contains(&until.as_secs()), "{until:?}");
    assert_eq!(metadata.sweep(now + Duration::from_secs(3601)).unwrap().removed.len(), 1);
}

#[test]
fn activations_live_with_their_lease_and_what_their_labels_name() {
    let (_dir, metadata) = open();
    metadata.leases().create(&scope(), "l", Labels::new()).unwrap();
    let container = Container { id: "c".into(), ..Container::default() };
    let container = Container { runtime: Runtime { name: "r".into(), options: None }, ..container };
    let spec = Some(AnyValue { type_url: "t".into(), value: vec![1] });
    metadata.containers().create(&scope(), Container { spec, ..container }).unwrap();
    let leased = Scope::new("default", Some("l".into()));
    let activations = metadata.activations();
    let of_container = label("containerd.io/gc.bref.container", "c");
    for (scope, name, labels) in [
        (&leased, "leased", Labels::new()),
        (&scope(), "of container", of_container),
        (&scope(), "of image", label("containerd.io/gc.bref.image/x", "no such image")),
        (&scope(), "free", Labels::new()),
        (&scope(), "under way", Labels::new()),
    ] {
        activations.begin(scope, name, labels).unwrap();
        if name != "under way" {
            activations.finish(scope, name, Vec::new(), Vec::new()).unwrap();
        }
    }
    let left = || -> Vec<String> {
        activations.list(&scope(), &[]).unwrap().into_iter().map(|(name, _)| name).collect()
    };
    metadata.sweep(SystemTime::now()).unwrap();
    assert_eq!(left(), ["leased", "of container", "under way"]);
    metadata.leases().delete(&scope(), "l").unwrap();
    metadata.containers().delete(&scope(), "c").unwrap();
    metadata.sweep(SystemTime::now()).unwrap();
    assert_eq!(left(), ["under way"]);
}

#[test]
fn pauses_are_measured_by_the_time_that_collections_take() {
    let schedule = Schedule::default();
    assert_eq!(schedule.pause_after(Duration::ZERO), Duration::from_millis(245), "no less than for 5 ms");
    assert_eq!(schedule.pause_after(Duration::from_millis(100)), Duration::from_millis(4900));
    let greedy = Schedule { pause_threshold: 7.0, ..schedule };
    assert_eq!(
        greedy.pause_after(Duration::from_secs(2)),
        Duration::from_secs(2),
        "half of the time at most"
    );
    let without = Schedule { pause_threshold: 0.0, ..schedule };
    assert_eq!(without.pause_after(Duration::from_secs(2)), Duration::from_secs(1));
    let mad = Schedule { pause_threshold: f64::NAN, ..schedule };
    assert_eq!(mad.pause_after(Duration::from_secs(2)), Duration::from_secs(1));
}

#[test]
fn enough_changes_call_for_a_collection() {
    let (_dir, metadata) = open();
    let schedule = Schedule { mutation_threshold: 5, ..Schedule::default() };
    let _collector = Collector::start(metadata.clone(), Vec::new(), schedule, |_| ()).unwrap();
    // nobody deletes anything: the blob was never held
    metadata.content().commit(&scope(), "r", &digest(1), 1, Labels::new()).unwrap();
    for n in 0..4 {
        assert!(metadata.content().info(&scope(), &digest(1)).is_ok(), "after {n} changes");
        metadata.leases().create(&scope(), &format!("l{n}"), Labels::new()).unwrap();
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while metadata.content().info(&scope(), &digest(1)).is_ok() {
        assert!(std::time::Instant::now() < deadline, "nothing was collected");
        std::thread::yield_now();
    }
}
