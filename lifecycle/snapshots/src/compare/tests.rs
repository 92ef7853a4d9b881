use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use lifecycle_metadata::{Metadata, Scope};
use proptest::prelude::*;
use rustix::fs::XattrFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use wharf_sys::namespace::{Namespaces, unshare};
use wharf_vocab::Labels;

use super::*;
use crate::Snapshotter;

/// Any bytes are a change of a tree with few names.
type Change = [u8; 4];

fn apply(root: &Path, change: Change) {
    let place = |byte: u8| -> PathBuf {
        let directory = ["", "a", "a/b", "c", "c/d/e"][usize::from(byte / 8) % 5];
        root.join(directory).join(format!("n{}", byte % 5))
    };
    let (path, other) = (place(change[1]), place(change[2]));
    let text = vec![change[3]; usize::from(change[3])];
    let remove = |path: &Path| {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    };
    // what cannot be done is no change
    let _ = match change[0] % 12 {
        0 | 1 => fs::write(&path, text),
        2 => fs::set_permissions(&path, fs::Permissions::from_mode(0o700 | u32::from(change[3]) & 0o77)),
        3 => {
            remove(&path);
            Ok(())
        }
        // a directory anew is opaque
        4 => {
            remove(&path);
            fs::create_dir_all(&path).and_then(|()| fs::write(path.join("inside"), text))
        }
        5 => fs::rename(&path, &other),
        6 => fs::hard_link(&path, &other),
        7 => symlink("../a/n1", &path),
        8 => {
            let directory = path.parent().unwrap();
            remove(directory);
            fs::create_dir_all(directory).and_then(|()| fs::write(&path, text))
        }
        9 => {
            let name = CString::new("user.note").unwrap();
            rustix::fs::lsetxattr(&path, &name, &text, XattrFlags::empty()).map_err(Into::into)
        }
        10 => {
            let directory = path.parent().unwrap();
            remove(directory);
            fs::write(directory, text)
        }
        _ => fs::create_dir_all(&path),
    };
}

fn start(root: &Path) {
    for directory in ["a/b", "c/d/e"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for (n, name) in ["n0", "a/n1", "a/b/n2", "c/n3", "c/d/e/n4"].iter().enumerate() {
        fs::write(root.join(name), format!("{n}")).unwrap();
    }
    fs::hard_link(root.join("a/n1"), root.join("c/n1")).unwrap();
    symlink("n0", root.join("n1")).unwrap();
}

/// Shows an active snapshot while `work` is done in it.
fn within(mounts: &[Mount], at: &Path, work: impl FnOnce(&Path)) {
    let [mount] = mounts else { panic!("{mounts:?}") };
    match mount.kind.as_str() {
        "bind" => rustix::mount::mount_bind(mount.source.as_str(), at).unwrap(),
        _ => {
            let data = CString::new(mount.options.join(",")).unwrap();
            rustix::mount::mount("overlay", at, "overlay", MountFlags::empty(), Some(&*data)).unwrap();
        }
    }
    work(at);
    rustix::mount::unmount(at, UnmountFlags::empty()).unwrap();
}

fn layer(by_top: bool, lower: &[Mount], upper: &[Mount]) -> (Digest, Vec<u8>) {
    let top = top_layer(lower, upper).filter(|_| by_top);
    assert_eq!(top.is_some(), by_top, "{upper:?} stands on {lower:?}");
    compare_by(top, lower, upper, Compression::None, None, Vec::new()).unwrap()
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
}

fn private_mounts() {
    assert!(rustix::process::geteuid().is_root(), "this test mounts: run it as root");
    unshare(Namespaces::MOUNT).unwrap();
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

fn same_by_both_ways(first: &[Change], second: &[Change]) {
    private_mounts();
    let dir = tempfile::tempdir().unwrap();
    let (at, scope) = (dir.path().join("at"), Scope::new("default", None));
    fs::create_dir(&at).unwrap();
    let metadata = Metadata::open(dir.path()).unwrap();
    let snapshotter = Snapshotter::open(&dir.path().join("s"), metadata).unwrap();
    within(&snapshotter.prepare(&scope, "base", "", Labels::new()).unwrap(), &at, start);
    snapshotter.commit(&scope, "l0", "base", "", Labels::new()).unwrap();
    for (n, changes) in [first, second].iter().enumerate() {
        let (below, key) = (format!("l{n}"), format!("k{n}"));
        let lower = snapshotter.view(&scope, &format!("v{n}"), &below, Labels::new()).unwrap();
        let upper = snapshotter.prepare(&scope, &key, &below, Labels::new()).unwrap();
        within(&upper, &at, |at| changes.iter().for_each(|change| apply(at, *change)));
        let (walked, by_top) = (layer(false, &lower, &upper), layer(true, &lower, &upper));
        assert_eq!(names(&by_top.1), names(&walked.1));
        assert_eq!(by_top, walked);
        snapshotter.commit(&scope, &format!("l{}", n + 1), &key, "", Labels::new()).unwrap();
    }
    // and between committed ones
    let lower = snapshotter.view(&scope, "lower", "l1", Labels::new()).unwrap();
    let upper = snapshotter.view(&scope, "upper", "l2", Labels::new()).unwrap();
    assert_eq!(layer(true, &lower, &upper), layer(false, &lower, &upper));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases((ProptestConfig::default().cases / 10).max(1)))]
    #[test]
    fn root_the_top_layer_tells_what_a_walk_finds(
        first in proptest::collection::vec(any::<Change>(), 0..12),
        second in proptest::collection::vec(any::<Change>(), 0..12),
    ) {
        same_by_both_ways(&first, &second);
    }
}

#[test]
fn root_what_is_unchanged_is_not_looked_at() {
    private_mounts();
    let dir = tempfile::tempdir().unwrap();
    let (at, scope) = (dir.path().join("at"), Scope::new("default", None));
    fs::create_dir(&at).unwrap();
    let metadata = Metadata::open(dir.path()).unwrap();
    let snapshotter = Snapshotter::open(&dir.path().join("s"), metadata).unwrap();
    within(&snapshotter.prepare(&scope, "base", "", Labels::new()).unwrap(), &at, start);
    snapshotter.commit(&scope, "l0", "base", "", Labels::new()).unwrap();
    let lower = snapshotter.view(&scope, "v", "l0", Labels::new()).unwrap();
    let upper = snapshotter.prepare(&scope, "k", "l0", Labels::new()).unwrap();
    within(&upper, &at, |at| {
        fs::write(at.join("a/b/new"), "x").unwrap();
        fs::remove_file(at.join("c/n3")).unwrap();
    });
    // a lower file that changes behind the overlay's back is seen by a walk only
    let behind = PathBuf::from(&lower[0].source).join("n0");
    let (_, by_top) = layer(true, &lower, &upper);
    assert_eq!(names(&by_top), ["a/", "a/b/", "a/b/new", "c/", "c/.wh.n3"]);
    assert!(behind.exists());
    // other mounts are walked
    let stranger = dir.path().join("stranger");
    fs::create_dir(&stranger).unwrap();
    let stranger = Mount { source: stranger.display().to_string(), ..lower[0].clone() };
    assert_eq!(top_layer(&[stranger], &upper), None);
    assert_eq!(top_layer(&[], &upper), None);
}

#[test]
fn root_no_mounts_are_an_empty_root() {
    assert!(rustix::process::geteuid().is_root(), "this test mounts: run it as root");
    let (digest, archive) = compare(&[], &[], Compression::None, None, Vec::new()).unwrap();
    assert!(names(&archive).is_empty());
    assert_eq!(digest, Digest::sha256(&archive));
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1751)).unwrap();
    rustix::fs::chown(dir.path(), Some(rustix::fs::Uid::from_raw(7)), Some(rustix::fs::Gid::from_raw(8)))
        .unwrap();
    start(dir.path());
    let options = vec!["rbind".into(), "ro".into()];
    let mount = Mount {
        kind: "bind".into(),
        source: dir.path().display().to_string(),
        target: String::new(),
        options,
    };
    let (_, archive) =
        compare(std::slice::from_ref(&mount), &[], Compression::None, None, Vec::new()).unwrap();
    assert_eq!(names(&archive), [".wh.a", ".wh.c", ".wh.n0", ".wh.n1"], "all of it is gone");
    let (_, archive) = compare(&[], &[mount], Compression::None, None, Vec::new()).unwrap();
    assert!(names(&archive).contains(&"c/d/e/n4".to_owned()), "all of it is new");
}
