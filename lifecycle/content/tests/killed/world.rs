//! The stores, under the operations of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifecycle_content::{ContentStore, WriteOptions};
use lifecycle_metadata::{
    AnyValue, Collector, Container, Descriptor, Image, Metadata, Reclaim, Runtime, Schedule, Scope,
    SnapshotKind,
};
use lifecycle_snapshots::{Mount, OVERLAYFS, Snapshotter};
use wharf_vocab::{Digest, Labels};

use crate::model::{COUNT, Kind, Label, Lease, Op, Snapshot, State, Thing};

pub struct World {
    root: PathBuf,
    metadata: Metadata,
    content: ContentStore,
    snapshotter: Snapshotter,
    collector: Collector,
}

/// The bytes of a blob: a few pages, each blob's its own.
fn bytes(number: u8) -> Vec<u8> {
    vec![b'a' + number; 20_000 + usize::from(number)]
}

fn digest(number: u8) -> Digest {
    Digest::sha256(&bytes(number))
}

fn number_of(name: &str) -> u8 {
    name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn named(number: u8) -> String {
    format!("n{number}")
}

fn labels(label: Label) -> Labels {
    let (name, value) = match label {
        Label::None => return Labels::new(),
        Label::Root => ("containerd.io/gc.root", "yes".to_owned()),
        Label::HoldsBlob(n) => ("containerd.io/gc.ref.content.x", digest(n).to_string()),
        Label::HoldsSnapshot(n) => ("containerd.io/gc.ref.snapshot.overlayfs/x", named(n)),
        Label::HeldByContainer(n) => ("containerd.io/gc.bref.container", named(n)),
        Label::HoldsImage(n) => ("containerd.io/gc.ref.image/x", named(n)),
    };
    Labels::from([(name.to_owned(), value)])
}

fn label_of(found: &Labels) -> Label {
    let all = (0..COUNT).flat_map(|n| {
        [Label::HoldsBlob(n), Label::HoldsSnapshot(n), Label::HeldByContainer(n), Label::HoldsImage(n)]
    });
    let mut all = all.chain([Label::Root, Label::None]);
    all.find(|label| labels(*label).iter().all(|(k, v)| found.get(k) == Some(v))).unwrap()
}

const OVER: &str = "2001-01-01T00:00:00Z";

impl World {
    pub fn open(root: &Path) -> World {
        let metadata = Metadata::open(root).unwrap();
        let content = ContentStore::open(&root.join("content"), metadata.clone()).unwrap();
        let snapshotter = Snapshotter::open(&root.join("s"), metadata.clone()).unwrap();
        let stores: Vec<Arc<dyn Reclaim>> = vec![Arc::new(content.clone()), Arc::new(snapshotter.clone())];
        // after the first one none by itself: the model says when
        let schedule = Schedule { pause_threshold: 1e-9, mutation_threshold: 0, ..Schedule::default() };
        let collector = Collector::start(metadata.clone(), stores, schedule, |_| ()).unwrap();
        World { root: root.into(), metadata, content, snapshotter, collector }
    }

    pub fn collect(&self) {
        self.collector.collect().unwrap();
    }

    /// Whether it was done; a refusal is for a reason that the model knows.
    pub fn perform(&self, op: Op) -> bool {
        use wharf_kinds::Kind as Refused;
        let lease = op.lease().map(|lease| format!("l{lease}"));
        let scope = Scope::new(format!("ns{}", op.namespace()), lease);
        let name = named(op.subject());
        let outcome: Result<(), Refused> = match op.kind() {
            Kind::StartIngest => self.start(&scope, op).map_err(|e| e.kind()),
            Kind::Put => self.put(&scope, op).map_err(|e| e.kind()),
            Kind::Abort => self.content.abort(&scope, &name).map_err(|e| e.kind()),
            Kind::Label => {
                let updated = self.content.update(&scope, &digest(op.subject()), &labels(op.label()), &[]);
                updated.map(|_| ()).map_err(|e| e.kind())
            }
            Kind::DeleteBlob => self.content.delete(&scope, &digest(op.subject())).map_err(|e| e.kind()),
            Kind::Prepare => {
                let parent = op.other().map(named).unwrap_or_default();
                let prepared = self.snapshotter.prepare(&scope, &name, &parent, labels(op.label()));
                prepared.map(|mounts| fill(&mounts)).map_err(|e| e.kind())
            }
            Kind::Commit => {
                let to = named(op.other().unwrap_or(op.subject()));
                let labels = labels(op.label());
                self.snapshotter.commit(&scope, &to, &name, "", labels).map_err(|e| e.kind())
            }
            Kind::RemoveSnapshot => self.snapshotter.remove(&scope, &name).map_err(|e| e.kind()),
            Kind::CreateLease => {
                let mut labels = Labels::new();
                if op.flag() {
                    labels.insert("containerd.io/gc.flat".into(), "yes".into());
                }
                if op.0[4].is_multiple_of(8) {
                    labels.insert("containerd.io/gc.expire".into(), OVER.into());
                }
                let id = format!("l{}", op.subject() % 3);
                self.metadata.leases().create(&scope, &id, labels).map(|_| ()).map_err(|e| e.kind())
            }
            Kind::DeleteLease => {
                let id = format!("l{}", op.subject() % 3);
                self.metadata.leases().delete(&scope, &id).map_err(|e| e.kind())
            }
            Kind::CreateImage => self.create_image(&scope.namespace, op).map_err(|e| e.kind()),
            Kind::DeleteImage => {
                let scope = Scope::new(scope.namespace, None);
                self.metadata.images().delete(&scope, &name, None).map_err(|e| e.kind())
            }
            Kind::CreateContainer => {
                let container = Container {
                    id: name,
                    runtime: Runtime { name: "r".into(), options: None },
                    spec: Some(AnyValue { type_url: "t".into(), value: vec![1] }),
                    snapshotter: op.other().map(|_| OVERLAYFS.to_owned()).unwrap_or_default(),
                    snapshot_key: op.other().map(named).unwrap_or_default(),
                    ..Container::default()
                };
                self.metadata.containers().create(&scope, container).map(|_| ()).map_err(|e| e.kind())
            }
            Kind::DeleteContainer => self.metadata.containers().delete(&scope, &name).map_err(|e| e.kind()),
            Kind::Collect => {
                self.collect();
                Ok(())
            }
        };
        match outcome {
            Ok(()) => true,
            // the last: a parent that is not committed
            Err(
                Refused::NotFound
                | Refused::AlreadyExists
                | Refused::FailedPrecondition
                | Refused::InvalidArgument,
            ) => false,
            Err(kind) => panic!("{op:?}: {kind:?}"),
        }
    }

    fn start(&self, scope: &Scope, op: Op) -> Result<(), lifecycle_content::ContentError> {
        let reference = named(op.subject());
        let options = WriteOptions { reference: &reference, ..WriteOptions::default() };
        let mut writer = self.content.writer(scope, &options)?;
        let bytes = bytes(op.subject());
        let offset = writer.progress().offset as usize;
        writer.write(&bytes[offset..bytes.len().min(offset + 7_000)])
    }

    fn put(&self, scope: &Scope, op: Op) -> Result<(), lifecycle_content::ContentError> {
        let (reference, digest, bytes) = (named(op.subject()), digest(op.subject()), bytes(op.subject()));
        let expected = op.flag().then_some(&digest);
        let options = WriteOptions { reference: &reference, total: 0, expected };
        let mut writer = self.content.writer(scope, &options)?;
        let offset = writer.progress().offset as usize;
        for part in bytes[offset..].chunks(8_000) {
            writer.write(part)?;
        }
        writer.commit(bytes.len() as u64, expected, labels(op.label())).map(|_| ())
    }

    fn create_image(&self, namespace: &str, op: Op) -> Result<(), lifecycle_metadata::MetadataError> {
        let mut labels = labels(op.label());
        if op.0[4].is_multiple_of(4) {
            labels.insert("containerd.io/gc.expire".into(), OVER.into());
        }
        let target = Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: digest(op.other().unwrap_or(0)),
            size: 1,
            annotations: Labels::new(),
        };
        let now = std::time::SystemTime::now();
        let image = Image { name: named(op.subject()), labels, target, created: now, updated: now };
        self.metadata.images().create(&Scope::new(namespace, None), image, None).map(|_| ())
    }

    /// All records, as the model has them.
    pub fn read(&self) -> [State; 2] {
        [self.read_namespace("ns0"), self.read_namespace("ns1")]
    }

    fn read_namespace(&self, namespace: &str) -> State {
        let scope = Scope::new(namespace, None);
        let number_of_digest = |found: &Digest| (0..COUNT).find(|n| digest(*n) == *found).unwrap();
        let blobs = self.content.list(&scope, &[]).unwrap();
        let blobs = blobs.iter().map(|info| (number_of_digest(&info.digest), label_of(&info.labels)));
        let ingests = self.metadata.content().ingests(&scope).unwrap();
        let ingests = ingests.iter().map(|one| (number_of(&one.reference), one.expires.is_some()));
        let snapshots = self.snapshotter.list(&scope, &[]).unwrap().into_iter().map(|info| {
            let parent = (!info.record.parent.is_empty()).then(|| number_of(&info.record.parent));
            let is_committed = info.record.kind == SnapshotKind::Committed;
            let label = label_of(&info.record.labels);
            (number_of(&info.name), Snapshot { parent, is_committed, label })
        });
        let leases = self.metadata.leases().list(&scope, &[]).unwrap().into_iter().map(|lease| {
            let thing = |resource: lifecycle_metadata::Resource| match resource.kind.as_str() {
                "content" => Thing::Blob(number_of_digest(&Digest::parse(&resource.id).unwrap())),
                "ingests" => Thing::Ingest(number_of(&resource.id)),
                "images" => Thing::Image(number_of(&resource.id)),
                _ => Thing::Snapshot(number_of(&resource.id)),
            };
            let holds = self.metadata.leases().resources(&scope, &lease.id).unwrap();
            let lease_record = Lease {
                is_flat: lease.labels.contains_key("containerd.io/gc.flat"),
                is_over: lease.labels.contains_key("containerd.io/gc.expire"),
                holds: holds.into_iter().map(thing).collect(),
            };
            (number_of(&lease.id), lease_record)
        });
        let images = self.metadata.images().list(&scope, &[]).unwrap().into_iter().map(|image| {
            let is_over = image.labels.contains_key("containerd.io/gc.expire");
            (
                number_of(&image.name),
                (number_of_digest(&image.target.digest), is_over, label_of(&image.labels)),
            )
        });
        let containers = self.metadata.containers().list(&scope, &[]).unwrap().into_iter().map(|container| {
            let key = &container.snapshot_key;
            (number_of(&container.id), (!key.is_empty()).then(|| number_of(key)))
        });
        State {
            blobs: blobs.collect(),
            ingests: ingests.collect(),
            snapshots: snapshots.collect(),
            leases: leases.collect(),
            images: images.collect(),
            containers: containers.collect(),
        }
    }

    /// Every record has its file, whole, and every file its record.
    pub fn check_files(&self) {
        let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
        let (mut ingests, mut snapshots) = (BTreeSet::new(), BTreeSet::new());
        for namespace in ["ns0", "ns1"] {
            let scope = Scope::new(namespace, None);
            for info in self.content.list(&scope, &[]).unwrap() {
                let mut file = self.content.reader(&scope, &info.digest).unwrap().into_file();
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
                assert_eq!(Digest::sha256(&bytes), info.digest, "a damaged blob");
                wanted.insert(info.digest.hex().into(), info.size);
            }
            for one in self.metadata.content().ingests(&scope).unwrap() {
                if let Some(shared) = &one.shared {
                    wanted.insert(shared.hex().into(), one.total);
                }
                ingests.insert(one.id.to_string());
            }
            for info in self.snapshotter.list(&scope, &[]).unwrap() {
                snapshots.insert(info.record.id.to_string());
                let directory = self.root.join("s").join(info.record.id.to_string());
                assert!(directory.join("fs").is_dir(), "a snapshot without its directory");
            }
        }
        let names = |path: &str| -> BTreeSet<String> {
            let all = std::fs::read_dir(self.root.join(path)).unwrap();
            all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(
            names("content/blobs/sha256"),
            wanted.keys().cloned().collect(),
            "blobs and their records"
        );
        assert_eq!(names("s"), snapshots, "directories and their records");
        let left: Vec<_> = names("content/ingest").difference(&ingests).cloned().collect();
        assert!(left.is_empty(), "ingests without a record: {left:?}");
    }
}

/// Something to flush.
fn fill(mounts: &[Mount]) {
    let directory = mounts[0].option("upperdir").unwrap_or(&mounts[0].source);
    let mut file = std::fs::File::create(Path::new(directory).join("file")).unwrap();
    file.write_all(&[7; 3_000]).unwrap();
}
