use std::time::{Duration, SystemTime};

use wharf_kinds::Kind;
use wharf_vocab::{Digest, Labels};

use super::*;

fn open() -> (tempfile::TempDir, Metadata) {
    let dir = tempfile::tempdir().unwrap();
    let metadata = Metadata::open(dir.path()).unwrap();
    (dir, metadata)
}

fn scope() -> Scope {
    Scope::new("default", None)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn text<T>(outcome: Result<T, MetadataError>) -> String {
    outcome.err().expect("it is refused").to_string()
}

fn mask(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|p| (*p).to_owned()).collect()
}

fn container(id: &str) -> Container {
    Container {
        id: id.into(),
        image: "image".into(),
        runtime: Runtime { name: "io.containerd.runc.v2".into(), options: None },
        spec: Some(AnyValue { type_url: "spec".into(), value: vec![0, 255, 7] }),
        ..Container::default()
    }
}

fn image(name: &str, target: &Digest) -> Image {
    Image {
        name: name.into(),
        labels: Labels::new(),
        target: Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: target.clone(),
            size: 7,
            annotations: Labels::new(),
        },
        created: SystemTime::UNIX_EPOCH,
        updated: SystemTime::UNIX_EPOCH,
    }
}

#[test]
fn containers_come_back_whole_after_reopening() {
    let (dir, metadata) = open();
    let mut wanted = container("c1");
    wanted.extensions.insert("e".into(), AnyValue { type_url: "t".into(), value: vec![1] });
    wanted.labels = labels(&[("a", "1"), ("empty", "")]);
    let made = metadata.containers().create(&scope(), wanted).unwrap();
    assert_eq!(made.labels, labels(&[("a", "1")]), "an empty label is none");
    drop(metadata);
    let metadata = Metadata::open(dir.path()).unwrap();
    assert_eq!(metadata.containers().get(&scope(), "c1").unwrap(), made);
    assert!(metadata.containers().list(&Scope::new("other", None), &[]).unwrap().is_empty());
}

#[test]
fn container_errors_are_containerds() {
    let (_dir, metadata) = open();
    let containers = metadata.containers();
    assert_eq!(text(containers.get(&scope(), "x")), "container \"x\" in namespace \"default\": not found");
    assert_eq!(text(containers.delete(&scope(), "x")), "container \"x\": not found");
    containers.create(&scope(), container("x")).unwrap();
    assert_eq!(text(containers.create(&scope(), container("x"))), "container \"x\": already exists");
    let unnamed = Container { runtime: Runtime::default(), ..container("y") };
    assert_eq!(
        text(containers.create(&scope(), unnamed)),
        "create container failed validation: container.Runtime.Name must be set: invalid argument"
    );
    for bad in [
        Container { spec: None, ..container("y") },
        Container { snapshot_key: "k".into(), ..container("y") },
        container("a/b"),
        container(""),
        Container { labels: labels(&[("k", &"v".repeat(5000))]), ..container("y") },
    ] {
        assert_eq!(containers.create(&scope(), bad).unwrap_err().kind(), Kind::InvalidArgument);
    }
    assert_eq!(containers.list(&scope(), &[]).unwrap().len(), 1);
}

#[test]
fn a_field_mask_changes_only_what_it_names() {
    let (_dir, metadata) = open();
    let containers = metadata.containers();
    let before = Container { labels: labels(&[("a", "1"), ("b", "2")]), ..container("c") };
    containers.create(&scope(), before).unwrap();
    let wanted = Container { labels: labels(&[("a", "9")]), image: "new".into(), ..container("c") };
    let after = containers.update(&scope(), &wanted, &mask(&["labels.a"])).unwrap();
    assert_eq!((after.labels.clone(), after.image.as_str()), (labels(&[("a", "9"), ("b", "2")]), "image"));
    let after = containers.update(&scope(), &wanted, &mask(&["labels.b"])).unwrap();
    assert_eq!(after.labels, labels(&[("a", "9")]), "a label that is not given goes away");
    let after = containers.update(&scope(), &wanted, &[]).unwrap();
    assert_eq!(after.image, "new");
    let other = Container { runtime: Runtime { name: "x".into(), options: None }, ..wanted.clone() };
    assert!(text(containers.update(&scope(), &other, &[])).contains("Runtime.Name field is immutable"));
    assert!(
        text(containers.update(&scope(), &wanted, &mask(&["runtime"])))
            .contains("cannot update \"runtime\" field")
    );
    assert!(after.updated >= after.created);
}

#[test]
fn filters_choose_containers() {
    let (_dir, metadata) = open();
    let containers = metadata.containers();
    containers.create(&scope(), Container { labels: labels(&[("x.y", "1")]), ..container("a") }).unwrap();
    containers.create(&scope(), container("b")).unwrap();
    let ids = |filters: &[&str]| -> Vec<String> {
        let found = containers.list(&scope(), &mask(filters)).unwrap();
        found.into_iter().map(|c| c.id).collect()
    };
    assert_eq!(ids(&["id==a"]), ["a"]);
    assert_eq!(ids(&["labels.\"x.y\"==1"]), ["a"]);
    assert_eq!(ids(&["runtime.name~=runc"]), ["a", "b"]);
    assert_eq!(ids(&["id==a", "id==b"]), ["a", "b"]);
    assert!(ids(&["id==a,image==other"]).is_empty());
    assert_eq!(containers.list(&scope(), &mask(&["id="])).unwrap_err().kind(), Kind::InvalidArgument);
}

#[test]
fn images_are_made_moved_and_deleted() {
    let (_dir, metadata) = open();
    let images = metadata.images();
    let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
    images.create(&scope(), image("i", &one), None).unwrap();
    assert_eq!(text(images.create(&scope(), image("i", &one), None)), "image \"i\": already exists");
    let moved = images.update(&scope(), &image("i", &two), &mask(&["target"]), None).unwrap();
    assert_eq!(moved.target.digest, two);
    assert_eq!(
        text(images.delete(&scope(), "i", Some(&one))),
        format!("image \"i\" has target {two}, not {one}: not found")
    );
    images.delete(&scope(), "i", Some(&two)).unwrap();
    assert_eq!(text(images.get(&scope(), "i")), "image \"i\": not found");
    assert_eq!(text(images.update(&scope(), &image("i", &two), &[], None)), "image \"i\": not found");
    let mut empty = image("e", &one);
    empty.target.size = 0;
    assert!(text(images.create(&scope(), empty, None)).contains("target.Size must be greater than zero"));
    let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
    assert_eq!(images.create(&scope(), image("r", &one), Some(epoch)).unwrap().created, epoch);
}

#[test]
fn a_namespace_goes_only_when_it_is_empty() {
    let (_dir, metadata) = open();
    let namespaces = metadata.namespaces();
    namespaces.create("a", labels(&[("k", "v")])).unwrap();
    assert_eq!(text(namespaces.create("a", Labels::new())), "namespace \"a\": already exists");
    assert_eq!(namespaces.get("a").unwrap().labels, labels(&[("k", "v")]));
    assert!(namespaces.create("a b", Labels::new()).is_err());
    let inside = Scope::new("b", None);
    metadata.containers().create(&inside, container("c")).unwrap();
    metadata.images().create(&inside, image("i", &Digest::sha256(b"1")), None).unwrap();
    assert_eq!(namespaces.list().unwrap().len(), 2, "one came to be by what was made in it");
    assert_eq!(
        text(namespaces.delete("b")),
        "namespace \"b\" must be empty, but it still has images, containers: failed precondition"
    );
    namespaces.delete("a").unwrap();
    assert_eq!(text(namespaces.delete("a")), "namespace \"a\": not found");
    let wanted = Namespace { name: "b".into(), labels: labels(&[("x", "1")]) };
    assert_eq!(namespaces.update(&wanted, &mask(&["labels.x"])).unwrap().labels, labels(&[("x", "1")]));
}

#[test]
fn labels_have_keys() {
    let (_dir, metadata) = open();
    let namespace = |value: &str| Namespace { name: "a".into(), labels: labels(&[("", value)]) };
    let refused = "namespace.Labels: key required: invalid argument";
    assert_eq!(text(metadata.namespaces().create("a", labels(&[("", "x")]))), refused);
    // an empty value removes, also what was never there
    metadata.namespaces().create("a", labels(&[("", "")])).unwrap();
    assert_eq!(text(metadata.namespaces().update(&namespace("x"), &mask(&["labels."]))), refused);
    assert_eq!(text(metadata.namespaces().update(&namespace("x"), &[])), refused);
    assert!(metadata.namespaces().list().unwrap().iter().all(|found| found.labels.is_empty()));
    let leases = metadata.leases();
    let refused = "lease.Labels: key required: invalid argument";
    assert_eq!(text(leases.create(&scope(), "l", labels(&[("", "x")]))), refused);
    assert!(leases.list(&scope(), &[]).unwrap().is_empty());
    let unnamed = Container { labels: labels(&[("", "x")]), ..container("c") };
    assert_eq!(metadata.containers().create(&scope(), unnamed).unwrap_err().kind(), Kind::InvalidArgument);
}

#[test]
fn leases_hold_named_resources() {
    let (_dir, metadata) = open();
    let leases = metadata.leases();
    leases.create(&scope(), "l", labels(&[("a", "1")])).unwrap();
    assert_eq!(text(leases.create(&scope(), "l", Labels::new())), "lease \"l\": already exists");
    let resource = |kind: &str, id: &str| Resource { kind: kind.into(), id: id.into() };
    let snapshot = resource("snapshots/overlayfs", "key");
    leases.add_resource(&scope(), "l", &snapshot).unwrap();
    leases.add_resource(&scope(), "l", &resource("content", Digest::sha256(b"").as_str())).unwrap();
    assert_eq!(leases.resources(&scope(), "l").unwrap().len(), 2);
    leases.delete_resource(&scope(), "l", &snapshot).unwrap();
    assert_eq!(leases.resources(&scope(), "l").unwrap().len(), 1);
    for (kind, id, want) in [
        ("content", "nonsense", Kind::InvalidArgument),
        ("snapshots", "k", Kind::InvalidArgument),
        ("snapshots/", "k", Kind::InvalidArgument),
        ("snapshots/overlayfs", "", Kind::InvalidArgument),
        ("images", "", Kind::InvalidArgument),
        ("ingests", "", Kind::InvalidArgument),
        ("content/x", "k", Kind::InvalidArgument),
        ("other", "k", Kind::Unimplemented),
    ] {
        assert_eq!(
            leases.add_resource(&scope(), "l", &resource(kind, id)).unwrap_err().kind(),
            want,
            "{kind}"
        );
    }
    assert_eq!(leases.list(&scope(), &mask(&["labels.a==1"])).unwrap().len(), 1);
    leases.delete(&scope(), "l").unwrap();
    assert_eq!(text(leases.resources(&scope(), "l")), "lease \"l\": not found");
    leases.create(&scope(), "l", Labels::new()).unwrap();
    assert!(leases.resources(&scope(), "l").unwrap().is_empty(), "a new lease of that name holds nothing");
}
