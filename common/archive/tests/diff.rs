//! Layers made of two trees, and what they make of the first.

#[allow(dead_code)]
mod support;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use support::{Archive, Place, xattr};
use wharf_archive::{EntryKind, TarReader, Whiteouts, copy_tree, write_diff};

fn diff(lower: Option<&Path>, upper: &Path) -> Vec<u8> {
    let (lower, upper) = (lower.map(|path| File::open(path).unwrap()), File::open(upper).unwrap());
    write_diff(lower.as_ref().map(AsFd::as_fd), upper.as_fd(), None, Vec::new(), None).unwrap()
}

fn paths(archive: &[u8]) -> Vec<String> {
    let mut reader = TarReader::new(archive);
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let link = if entry.kind == EntryKind::HardLink { "=" } else { "" };
        all.push(String::from_utf8([link.as_bytes(), &entry.path].concat()).unwrap());
    }
    all
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// A tree with something of every kind, and a changed copy of it.
fn trees() -> (tempfile::TempDir, tempfile::TempDir) {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in ["kept/deep", "gone/deep", "becomes-file", "etc"] {
        fs::create_dir_all(a.path().join(dir)).unwrap();
    }
    for file in
        ["kept/deep/same", "gone/deep/x", "becomes-file/x", "etc/changed", "etc/removed", "becomes-dir", "l1"]
    {
        fs::write(a.path().join(file), file).unwrap();
    }
    fs::hard_link(a.path().join("l1"), a.path().join("l0")).unwrap();
    copy_tree(File::open(a.path()).unwrap().as_fd(), File::open(b.path()).unwrap().as_fd()).unwrap();
    let b_path = b.path();
    fs::remove_dir_all(b_path.join("gone")).unwrap();
    fs::remove_dir_all(b_path.join("becomes-file")).unwrap();
    fs::write(b_path.join("becomes-file"), "now").unwrap();
    fs::remove_file(b_path.join("becomes-dir")).unwrap();
    fs::create_dir(b_path.join("becomes-dir")).unwrap();
    fs::write(b_path.join("becomes-dir/in"), "now").unwrap();
    fs::remove_file(b_path.join("etc/removed")).unwrap();
    fs::write(b_path.join("etc/changed"), "other text").unwrap();
    fs::write(b_path.join("l1"), "both").unwrap();
    fs::hard_link(b_path.join("l1"), b_path.join("l2")).unwrap();
    symlink("/etc/passwd", b_path.join("link")).unwrap();
    set_xattr(&b_path.join("becomes-file"), "user.k", b"v\n\0");
    set_xattr(&b_path.join("etc"), "trusted.overlay.opaque", b"y");
    rustix::fs::mknodat(
        CWD,
        b_path.join("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    fs::write(b_path.join("su"), "su").unwrap();
    std::os::unix::fs::chown(b_path.join("su"), Some(70_000), Some(3_000_000)).unwrap();
    fs::set_permissions(b_path.join("su"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::write(b_path.join("n".repeat(200)), "long").unwrap();
    fs::write(b_path.join(".wh.trick"), "").unwrap();
    (a, b)
}

#[test]
fn root_the_layer_says_what_changed_and_no_more() {
    let (a, b) = trees();
    let layer = diff(Some(a.path()), b.path());
    let long = "n".repeat(200);
    assert_eq!(
        paths(&layer),
        [
            "becomes-dir/",
            "becomes-file",
            ".wh.gone",
            "l0",
            "=l1",
            "=l2",
            "link",
            &long,
            "null",
            "su",
            "becomes-dir/in",
            "etc/",
            "etc/changed",
            "etc/.wh.removed"
        ]
    );
    assert_eq!(diff(Some(a.path()), b.path()), layer, "the same bytes again");
    let same = tempfile::tempdir().unwrap();
    copy_tree(File::open(a.path()).unwrap().as_fd(), File::open(same.path()).unwrap().as_fd()).unwrap();
    assert_eq!(paths(&diff(Some(a.path()), same.path())), [""; 0], "a copy makes an empty layer");
}

#[test]
fn root_the_layer_on_the_first_tree_gives_the_second() {
    let (a, b) = trees();
    let layer = diff(Some(a.path()), b.path());
    let place = Place::new();
    copy_tree(File::open(a.path()).unwrap().as_fd(), File::open(&place.target).unwrap().as_fd()).unwrap();
    place.apply(&layer, Whiteouts::Remove).unwrap();
    assert!(!place.exists("gone") && !place.exists("etc/removed") && place.exists("kept/deep/same"));
    assert_eq!((place.read("becomes-file"), place.read("becomes-dir/in")), ("now".into(), "now".into()));
    assert_eq!(xattr(&place.path("becomes-file"), "user.k").as_deref(), Some(&b"v\n\0"[..]));
    let su = place.path("su").metadata().unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid()), (0o4755, 70_000, 3_000_000));
    let inode = |name: &str| place.path(name).metadata().unwrap().ino();
    assert_eq!((inode("l1"), place.read("l0")), (inode("l2"), "both".into()));
    assert!(place.path("null").metadata().unwrap().file_type().is_char_device());
    assert!(!place.exists(".wh.trick") && !place.exists("trick"));
    assert_eq!(xattr(&place.path("etc"), "trusted.overlay.opaque"), None);
    // what is left to say is nothing but the name that no layer can say
    assert_eq!(paths(&diff(Some(b.path()), &place.target)), [""; 0]);
}

#[test]
fn root_without_a_lower_tree_everything_is_new() {
    let (a, _) = trees();
    let first = diff(None, a.path());
    assert!(paths(&first).contains(&"kept/deep/same".into()));
    assert!(paths(&first).iter().all(|path| !path.contains(".wh.")));
}

#[test]
fn root_contents_count_where_times_say_nothing() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    for (dir, same, other) in [(&a, "same", "aaa"), (&b, "same", "bbb")] {
        for (name, text) in [("same", same), ("other", other)] {
            fs::write(dir.path().join(name), text).unwrap();
            File::options().write(true).open(dir.path().join(name)).unwrap().set_modified(time).unwrap();
        }
    }
    assert_eq!(paths(&diff(Some(a.path()), b.path())), ["other"]);
}

#[test]
fn root_links_are_never_followed() {
    let place = Place::new();
    let lower = tempfile::tempdir().unwrap();
    fs::create_dir(lower.path().join("d")).unwrap();
    symlink(&place.outside, place.path("d")).unwrap();
    symlink(place.outside.join("secret"), place.path("f")).unwrap();
    let layer = diff(Some(lower.path()), &place.target);
    assert_eq!(paths(&layer), ["d", "f"]);
    assert!(!layer.windows(9).any(|bytes| bytes == b"untouched"));
    let _ = Archive::new();
}
