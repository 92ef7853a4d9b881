use std::path::{Path, PathBuf};

use lifecycle_metadata::{Metadata, Scope, SnapshotKind};
use wharf_kinds::Kind;
use wharf_vocab::{Algorithm, Digest, Labels};

use super::*;

mod contracts;

struct Place {
    dir: tempfile::TempDir,
    snapshotter: Snapshotter,
    metadata: Metadata,
}

fn open(root: &Path) -> (Snapshotter, Metadata) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let metadata = Metadata::open(root).unwrap();
    (Snapshotter::open(&root.join("s"), metadata.clone()).unwrap(), metadata)
}

/// What every kind of snapshotter promises.
macro_rules! contract {
    ($($name:ident,)*) => {
        mod overlay_contract {
            $(#[test] fn $name() { super::contracts::$name(super::place()); })*
        }
        mod native_contract {
            $(#[test] fn $name() { super::contracts::$name(super::native()); })*
        }
    };
}

fn native() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let metadata = Metadata::open(dir.path()).unwrap();
    let snapshotter = Snapshotter::open_native(&dir.path().join("s"), metadata.clone()).unwrap();
    Place { dir, snapshotter, metadata }
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (snapshotter, metadata) = open(dir.path());
    Place { dir, snapshotter, metadata }
}

fn scope() -> Scope {
    Scope::new("default", None)
}

impl Place {
    fn prepare(&self, key: &str, parent: &str) -> Result<Vec<Mount>, SnapshotError> {
        self.snapshotter.prepare(&scope(), key, parent, Labels::new())
    }

    fn commit(&self, name: &str, key: &str) -> Result<(), SnapshotError> {
        self.snapshotter.commit(&scope(), name, key, "", Labels::new())
    }

    fn directories(&self) -> Vec<PathBuf> {
        let mut all: Vec<_> =
            std::fs::read_dir(self.dir.path().join("s")).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort();
        all
    }
}

fn kind<T>(outcome: Result<T, SnapshotError>) -> Kind {
    outcome.err().expect("it is refused").kind()
}

#[test]
fn root_mounts_are_containerds() {
    let p = place();
    let s = p.dir.path().join("s").to_str().unwrap().to_owned();
    let first = p.prepare("a1", "").unwrap();
    assert_eq!((first[0].kind.as_str(), first[0].source.clone()), ("bind", format!("{s}/1/fs")));
    assert_eq!(first[0].options, ["rw", "rbind"]);
    p.commit("c1", "a1").unwrap();
    p.prepare("a2", "c1").unwrap();
    p.commit("c2", "a2").unwrap();
    let third = p.prepare("a3", "c2").unwrap();
    assert_eq!((third[0].kind.as_str(), third[0].source.as_str()), ("overlay", "overlay"));
    assert_eq!(third[0].option("upperdir"), Some(format!("{s}/3/fs").as_str()));
    assert_eq!(third[0].option("workdir"), Some(format!("{s}/3/work").as_str()));
    assert_eq!(third[0].option("lowerdir"), Some(format!("{s}/2/fs:{s}/1/fs").as_str()));
    assert_eq!(p.snapshotter.mounts(&scope(), "a3").unwrap(), third, "and again");
    let one = p.snapshotter.view(&scope(), "v1", "c1", Labels::new()).unwrap();
    assert_eq!(
        (one[0].source.clone(), one[0].options.clone()),
        (format!("{s}/1/fs"), vec!["ro".into(), "rbind".into()])
    );
    let two = p.snapshotter.view(&scope(), "v2", "c2", Labels::new()).unwrap();
    assert_eq!((two[0].kind.as_str(), two[0].option("upperdir")), ("overlay", None));
    assert_eq!(two[0].option("lowerdir"), Some(format!("{s}/2/fs:{s}/1/fs").as_str()));
}

#[test]
fn root_a_parent_can_be_given_at_commit() {
    let p = place();
    p.prepare("a", "").unwrap();
    p.commit("c", "a").unwrap();
    p.prepare("b", "").unwrap();
    p.snapshotter.commit(&scope(), "d", "b", "c", Labels::new()).unwrap();
    assert_eq!(p.snapshotter.stat(&scope(), "d").unwrap().record.parent, "c");
    p.prepare("e", "d").unwrap();
    assert_eq!(kind(p.snapshotter.commit(&scope(), "f", "e", "c", Labels::new())), Kind::InvalidArgument);
}

#[test]
fn root_an_overlay_of_the_mounts_shows_all_layers() {
    let p = place();
    let write = |mounts: &[Mount], name: &str| {
        let target = mounts[0].option("upperdir").unwrap_or(&mounts[0].source);
        std::fs::write(Path::new(target).join(name), name).unwrap();
    };
    write(&p.prepare("a1", "").unwrap(), "one");
    p.commit("c1", "a1").unwrap();
    write(&p.prepare("a2", "c1").unwrap(), "two");
    p.commit("c2", "a2").unwrap();
    let mounts = p.prepare("a3", "c2").unwrap();
    // a detached mount of our own: nothing of it is seen elsewhere, and it goes when its descriptor does
    let fs = rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for option in &mounts[0].options {
        let (name, value) = option.split_once('=').unwrap();
        rustix::mount::fsconfig_set_string(&fs, name, value).unwrap();
    }
    rustix::mount::fsconfig_create(&fs).unwrap();
    let flags = rustix::mount::FsMountFlags::FSMOUNT_CLOEXEC;
    let root = rustix::mount::fsmount(&fs, flags, rustix::mount::MountAttrFlags::empty()).unwrap();
    for name in ["one", "two"] {
        rustix::fs::statat(&root, name, rustix::fs::AtFlags::empty()).unwrap();
    }
    rustix::fs::mkdirat(&root, "made", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    assert!(Path::new(mounts[0].option("upperdir").unwrap()).join("made").is_dir());
}

#[test]
fn root_the_root_of_a_layer_looks_like_its_parents() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let p = place();
    let first = PathBuf::from(&p.prepare("a", "").unwrap()[0].source);
    std::os::unix::fs::chown(&first, Some(12), Some(13)).unwrap();
    std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o1777)).unwrap();
    p.commit("c", "a").unwrap();
    let second = p.prepare("b", "c").unwrap();
    let meta = std::fs::metadata(second[0].option("upperdir").unwrap()).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (12, 13, 0o1777));
}

#[test]
fn root_a_start_sweeps_what_has_no_record_and_reuses_no_number() {
    let p = place();
    p.prepare("a", "").unwrap();
    p.prepare("b", "").unwrap();
    p.snapshotter.remove(&scope(), "b").unwrap();
    let Place { dir, snapshotter, metadata } = p;
    drop((snapshotter, metadata));
    for orphan in ["9/fs/deep/er", "removing-4/fs"] {
        std::fs::create_dir_all(dir.path().join("s").join(orphan)).unwrap();
    }
    let (snapshotter, metadata) = open(dir.path());
    let p = Place { dir, snapshotter, metadata };
    assert_eq!(p.directories(), [p.dir.path().join("s/1")]);
    let mounts = p.prepare("c", "").unwrap();
    assert!(mounts[0].source.ends_with("/s/10/fs"), "{}", mounts[0].source);
}

#[test]
fn root_many_at_once_leave_no_trace() {
    let p = place();
    p.prepare("a", "").unwrap();
    p.commit("base", "a").unwrap();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let p = &p;
            threads.spawn(move || {
                for i in 0..10 {
                    let key = format!("{thread}-{i}");
                    p.prepare(&key, "base").unwrap();
                    p.snapshotter.sweep().unwrap();
                    let upper = p.snapshotter.mounts(&scope(), &key).unwrap();
                    assert!(Path::new(upper[0].option("upperdir").unwrap()).is_dir());
                    p.snapshotter.remove(&scope(), &key).unwrap();
                }
            });
        }
    });
    assert_eq!(p.directories().len(), 1);
}

contract! {
    root_only_committed_snapshots_are_parents,
    root_a_committed_snapshot_cannot_be_committed_again_nor_mounted,
    root_names_in_use_are_refused,
    root_a_snapshot_with_children_is_not_removed,
    root_commit_moves_the_place_among_the_children,
    root_usage_counts_what_a_layer_adds,
    root_a_layer_is_applied_and_a_bad_one_is_no_layer,
    root_leases_hold_snapshots_and_their_parents,
    root_children_show_what_their_parents_hold_and_keep_to_themselves,
    root_labels_are_updated_and_filtered,
    root_a_streamed_layer_is_committed_or_goes_away,
    root_the_layer_of_a_snapshot_is_what_it_adds,
}

#[test]
fn root_layers_of_an_image_are_unpacked_in_any_order() {
    let p = place();
    let archive = |add: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let mut builder = tar::Builder::new(Vec::new());
        add(&mut builder);
        builder.into_inner().unwrap()
    };
    let header = |kind| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header
    };
    let lower = archive(&|b| {
        let mut h = header(tar::EntryType::Regular);
        h.set_size(5);
        b.append_data(&mut h, "a/file", &b"below"[..]).unwrap();
    });
    let upper = archive(&|b| {
        b.append_link(&mut header(tar::EntryType::Link), "a/again", "a/file").unwrap();
        b.append_data(&mut header(tar::EntryType::Regular), "b/.wh.gone", &b""[..]).unwrap();
    });
    let begin = |key| p.snapshotter.begin_layer(&scope(), key, "", Labels::new()).unwrap();
    let (mut first, mut second) = (begin("l1"), begin("l2"));
    second.unpack(upper.as_slice(), Algorithm::Sha256, Limits::default()).unwrap();
    first.unpack(lower.as_slice(), Algorithm::Sha256, Limits::default()).unwrap();
    first.commit("c1", "", Labels::new()).unwrap();
    second.commit("c2", "c1", Labels::new()).unwrap();
    let mounts = p.prepare("rw", "c2").unwrap();
    let top = mounts[0].option("lowerdir").unwrap().split(':').next().unwrap().to_owned();
    assert_eq!(std::fs::read_to_string(Path::new(&top).join("a/again")).unwrap(), "below");
    let gone = std::fs::symlink_metadata(Path::new(&top).join("b/gone")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::rdev(&gone), 0, "a mark for the overlay, not a removal");
}

#[test]
fn root_mapped_snapshots_belong_to_the_mapped_root_and_say_so() {
    let p = place();
    let labels = Labels::from([
        ("containerd.io/snapshot/uidmapping".into(), "0:100000:65536".into()),
        ("containerd.io/snapshot/gidmapping".into(), "0:200000:65536".into()),
    ]);
    let mounts = p.snapshotter.prepare(&scope(), "a", "", labels.clone()).unwrap();
    let meta = std::fs::metadata(&mounts[0].source).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!((meta.uid(), meta.gid()), (100_000, 200_000));
    assert_eq!(mounts[0].option("uidmap"), Some("0:100000:65536"));
    assert_eq!(p.snapshotter.mounts(&scope(), "a").unwrap(), mounts);
    let bad = Labels::from([("containerd.io/snapshot/uidmapping".into(), "zero".into())]);
    let refused = p.snapshotter.prepare(&scope(), "b", "", bad);
    assert_eq!(kind(refused), Kind::InvalidArgument);
}
