//! Tests that every kind of snapshotter passes.

use super::*;

pub(super) fn root_only_committed_snapshots_are_parents(p: Place) {
    p.prepare("a", "").unwrap();
    assert_eq!(kind(p.prepare("b", "a")), Kind::InvalidArgument);
    assert_eq!(kind(p.prepare("b", "absent")), Kind::NotFound);
    assert_eq!(p.directories().len(), 1, "what was refused left nothing");
}

pub(super) fn root_a_committed_snapshot_cannot_be_committed_again_nor_mounted(p: Place) {
    p.prepare("a", "").unwrap();
    p.commit("c", "a").unwrap();
    assert_eq!(kind(p.commit("d", "c")), Kind::FailedPrecondition);
    assert_eq!(kind(p.commit("d", "a")), Kind::NotFound);
    assert_eq!(kind(p.snapshotter.mounts(&scope(), "c")), Kind::FailedPrecondition);
    let view = p.snapshotter.view(&scope(), "v", "c", Labels::new());
    view.unwrap();
    assert_eq!(kind(p.commit("d", "v")), Kind::FailedPrecondition);
}

pub(super) fn root_names_in_use_are_refused(p: Place) {
    p.prepare("a", "").unwrap();
    assert_eq!(p.prepare("a", "").unwrap_err().to_string(), "snapshot \"a\": already exists");
    p.commit("c", "a").unwrap();
    p.prepare("b", "").unwrap();
    assert_eq!(kind(p.commit("c", "b")), Kind::AlreadyExists);
    assert_eq!(
        p.snapshotter.stat(&scope(), "b").unwrap().record.kind,
        SnapshotKind::Active,
        "b is still there"
    );
    let target = Labels::from([("containerd.io/snapshot.ref".into(), "c".into())]);
    let error = p.snapshotter.prepare(&scope(), "new", "", target).unwrap_err();
    assert_eq!(error.to_string(), "target snapshot \"c\": already exists");
    p.snapshotter.prepare(&Scope::new("other", None), "a", "", Labels::new()).unwrap();
}

pub(super) fn root_a_snapshot_with_children_is_not_removed(p: Place) {
    p.prepare("a", "").unwrap();
    p.commit("c", "a").unwrap();
    p.prepare("b", "c").unwrap();
    let error = p.snapshotter.remove(&scope(), "c").unwrap_err();
    assert_eq!(error.to_string(), "cannot remove snapshot with child: failed precondition");
    p.snapshotter.remove(&scope(), "b").unwrap();
    p.snapshotter.remove(&scope(), "c").unwrap();
    assert_eq!(kind(p.snapshotter.remove(&scope(), "c")), Kind::NotFound);
    assert!(p.directories().is_empty());
}

pub(super) fn root_commit_moves_the_place_among_the_children(p: Place) {
    p.prepare("a", "").unwrap();
    p.commit("c", "a").unwrap();
    p.prepare("b", "c").unwrap();
    p.commit("d", "b").unwrap();
    assert_eq!(kind(p.snapshotter.remove(&scope(), "c")), Kind::FailedPrecondition);
    p.snapshotter.remove(&scope(), "d").unwrap();
    p.snapshotter.remove(&scope(), "c").unwrap();
}

pub(super) fn root_usage_counts_what_a_layer_adds(p: Place) {
    let mounts = p.prepare("a", "").unwrap();
    let empty = p.snapshotter.usage(&scope(), "a").unwrap();
    assert_eq!(empty.inodes, 1);
    std::fs::write(Path::new(&mounts[0].source).join("f"), vec![1; 100_000]).unwrap();
    p.commit("c", "a").unwrap();
    let usage = p.snapshotter.usage(&scope(), "c").unwrap();
    assert_eq!(usage.inodes, 2);
    assert!(usage.size >= 100_000);
    assert_eq!(p.snapshotter.usage(&scope(), "c").unwrap(), usage);
}

pub(super) fn root_a_layer_is_applied_and_a_bad_one_is_no_layer(p: Place) {
    let mounts = p.prepare("a", "").unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    builder.append_data(&mut header, "dir/file", &b"hi"[..]).unwrap();
    let layer = builder.into_inner().unwrap();
    let applied = apply_layer(layer.as_slice(), &mounts, Algorithm::Sha256, true).unwrap();
    assert_eq!(applied.uncompressed.0, Digest::sha256(&layer));
    assert_eq!(std::fs::read_to_string(Path::new(&mounts[0].source).join("dir/file")).unwrap(), "hi");
    let error = apply_layer(&layer[..513], &mounts, Algorithm::Sha256, false).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    assert_eq!(p.snapshotter.stat(&scope(), "a").unwrap().record.kind, SnapshotKind::Active);
}

pub(super) fn root_leases_hold_snapshots_and_their_parents(p: Place) {
    p.metadata.leases().create(&scope(), "l", Labels::new()).unwrap();
    let leased = Scope::new("default", Some("l".into()));
    p.snapshotter.prepare(&leased, "a", "", Labels::new()).unwrap();
    p.snapshotter.commit(&leased, "c", "a", "", Labels::new()).unwrap();
    p.prepare("loose", "c").unwrap();
    let stores: Vec<std::sync::Arc<dyn lifecycle_metadata::Reclaim>> =
        vec![std::sync::Arc::new(p.snapshotter.clone())];
    let collector = lifecycle_metadata::Collector::start(
        p.metadata.clone(),
        stores,
        lifecycle_metadata::Schedule::default(),
        |_| (),
    )
    .unwrap();
    collector.collect().unwrap();
    let names: Vec<_> = p.snapshotter.list(&scope(), &[]).unwrap().into_iter().map(|i| i.name).collect();
    assert_eq!(names, ["c"]);
    assert_eq!(p.directories().len(), 1);
    p.metadata.leases().delete(&scope(), "l").unwrap();
    collector.collect().unwrap();
    assert!(p.directories().is_empty());
}

/// The directory to write to, whichever the kind.
fn writable(mounts: &[Mount]) -> PathBuf {
    mounts[0].option("upperdir").unwrap_or(&mounts[0].source).into()
}

/// What a mount of these shows; detached, so that it goes with its descriptor.
fn shown(mounts: &[Mount]) -> std::os::fd::OwnedFd {
    if mounts[0].kind == "bind" {
        return std::fs::File::open(&mounts[0].source).unwrap().into();
    }
    let fs = rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for option in &mounts[0].options {
        let (name, value) = option.split_once('=').unwrap();
        rustix::mount::fsconfig_set_string(&fs, name, value).unwrap();
    }
    rustix::mount::fsconfig_create(&fs).unwrap();
    let flags = rustix::mount::FsMountFlags::FSMOUNT_CLOEXEC;
    rustix::mount::fsmount(&fs, flags, rustix::mount::MountAttrFlags::empty()).unwrap()
}

fn has(root: &std::os::fd::OwnedFd, name: &str) -> bool {
    rustix::fs::statat(root, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

pub(super) fn root_children_show_what_their_parents_hold_and_keep_to_themselves(p: Place) {
    std::fs::write(writable(&p.prepare("a", "").unwrap()).join("one"), "1").unwrap();
    p.commit("c", "a").unwrap();
    let first = p.prepare("b1", "c").unwrap();
    std::fs::write(writable(&first).join("two"), "2").unwrap();
    let second = p.prepare("b2", "c").unwrap();
    assert!(has(&shown(&first), "one") && has(&shown(&first), "two"));
    assert!(has(&shown(&second), "one") && !has(&shown(&second), "two"));
    let view = p.snapshotter.view(&scope(), "v", "c", Labels::new()).unwrap();
    assert!(view[0].kind == "overlay" || view[0].has("ro"));
    assert!(has(&shown(&view), "one") && !has(&shown(&view), "two"));
    p.commit("d", "b1").unwrap();
    assert!(has(&shown(&p.prepare("e", "d").unwrap()), "two"));
}

pub(super) fn root_labels_are_updated_and_filtered(p: Place) {
    p.prepare("a", "").unwrap();
    p.prepare("b", "").unwrap();
    let labels = Labels::from([("k".into(), "v".into())]);
    p.snapshotter.update(&scope(), "a", &labels, &["labels.k".into()]).unwrap();
    let named = |filter: &str| -> Vec<String> {
        let all = p.snapshotter.list(&scope(), &[filter.into()]).unwrap();
        all.into_iter().map(|info| info.name).collect()
    };
    assert_eq!(named("labels.k==v"), ["a"]);
    assert_eq!(named("name==b"), ["b"]);
    assert_eq!(named("kind==active").len(), 2);
    assert_eq!(named("kind==committed").len(), 0);
}

pub(super) fn root_a_streamed_layer_is_committed_or_goes_away(p: Place) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    builder.append_data(&mut header, "dir/file", &b"hi"[..]).unwrap();
    let archive = builder.into_inner().unwrap();
    let begin = |key| p.snapshotter.begin_layer(&scope(), key, "", Labels::new()).unwrap();
    let mut layer = begin("x1");
    let applied = layer.unpack(archive.as_slice(), Algorithm::Sha256, Limits::default()).unwrap();
    assert_eq!(applied.uncompressed.0, Digest::sha256(&archive));
    layer.commit("c", "", Labels::new()).unwrap();
    assert!(has(&shown(&p.prepare("a", "c").unwrap()), "dir/file"));
    // unpacked by somebody else meanwhile
    let mut layer = begin("x2");
    layer.unpack(archive.as_slice(), Algorithm::Sha256, Limits::default()).unwrap();
    assert_eq!(layer.commit("c", "", Labels::new()).unwrap_err().kind(), Kind::AlreadyExists);
    let mut layer = begin("x3");
    assert!(layer.unpack(&archive[..100], Algorithm::Sha256, Limits::default()).is_err());
    assert_eq!(layer.commit("d", "", Labels::new()).unwrap_err().kind(), Kind::FailedPrecondition);
    drop(begin("x4"));
    let mut names: Vec<_> = p.snapshotter.list(&scope(), &[]).unwrap().into_iter().map(|i| i.name).collect();
    names.sort();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(p.directories().len(), 2);
}

pub(super) fn root_the_layer_of_a_snapshot_is_what_it_adds(p: Place) {
    let first = writable(&p.prepare("a", "").unwrap());
    std::fs::create_dir(first.join("d")).unwrap();
    std::fs::write(first.join("d/gone"), "1").unwrap();
    std::fs::write(first.join("kept"), "1").unwrap();
    p.commit("c", "a").unwrap();
    let lower = p.snapshotter.view(&scope(), "v", "c", Labels::new()).unwrap();
    let upper = p.prepare("b", "c").unwrap();
    let root = shown(&upper);
    rustix::fs::unlinkat(&root, "d/gone", rustix::fs::AtFlags::empty()).unwrap();
    rustix::fs::mkdirat(&root, "new", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    drop(root);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (digest, layer) = compare(&lower, &upper, compression, None, Vec::new()).unwrap();
        let key = format!("again-{compression:?}");
        let mounts = p.prepare(&key, "c").unwrap();
        let applied = apply_layer(layer.as_slice(), &mounts, Algorithm::Sha256, false).unwrap();
        assert_eq!((applied.compression, applied.uncompressed.0), (compression, digest));
        let again = shown(&mounts);
        assert!(has(&again, "kept") && has(&again, "new") && !has(&again, "d/gone") && has(&again, "d"));
    }
    let (_, nothing) = compare(&upper, &upper, Compression::None, None, Vec::new()).unwrap();
    assert_eq!(nothing, [0; 1024], "the end of an archive and no entry");
}
