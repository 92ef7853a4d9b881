//! Layers unpacked before the layers below them are there.

#[allow(dead_code)]
mod support;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt};
use std::path::Path;

use rustix::fs::XattrFlags;
use support::{Archive, OVERLAY, Place, xattr};
use wharf_archive::Limits;
use wharf_kinds::Kind;

/// `a/data` with an attribute, `a/link`, and an odd mode on `a`.
fn lower() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let a = dir.path().join("a");
    std::fs::create_dir(&a).unwrap();
    std::fs::write(a.join("data"), "below").unwrap();
    std::fs::set_permissions(a.join("data"), PermissionsExt::from_mode(0o4711)).unwrap();
    rustix::fs::lsetxattr(a.join("data"), "user.mark", b"x", XattrFlags::empty()).unwrap();
    std::os::unix::fs::symlink("data", a.join("link")).unwrap();
    std::fs::set_permissions(&a, PermissionsExt::from_mode(0o2770)).unwrap();
    std::os::unix::fs::chown(&a, Some(11), Some(12)).unwrap();
    dir
}

/// Both ways of unpacking: with the layers known from the start, and completed later.
fn both(archive: &[u8], lower: &[&Path], check: impl Fn(&Place)) {
    let place = Place::new();
    place.apply_on(archive, OVERLAY, lower, Limits::default()).unwrap();
    check(&place);
    let place = Place::new();
    place.apply_then_resolve(archive, lower).unwrap();
    check(&place);
}

#[test]
fn root_a_hard_link_to_a_lower_file_brings_it_up() {
    let lower = lower();
    let archive = Archive::new().hardlink("b/new", "a/data").hardlink("c", "b/new").finish();
    both(&archive, &[lower.path()], |place| {
        let inode = |name: &str| place.path(name).symlink_metadata().unwrap().ino();
        assert_eq!(place.read("b/new"), "below");
        assert_eq!((inode("b/new"), inode("c")), (inode("a/data"), inode("a/data")));
        let meta = place.path("c").symlink_metadata().unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o4711, 3));
        assert_eq!(xattr(&place.path("c"), "user.mark").as_deref(), Some(&b"x"[..]));
        let a = place.path("a").symlink_metadata().unwrap();
        assert_eq!((a.mode() & 0o7777, a.uid(), a.gid()), (0o2770, 11, 12));
    });
}

#[test]
fn root_a_hard_link_to_a_lower_symbolic_link_is_one() {
    let lower = lower();
    let archive = Archive::new().hardlink("new", "a/link").hardlink("newer", "new").finish();
    both(&archive, &[lower.path()], |place| {
        for name in ["new", "newer", "a/link"] {
            assert_eq!(std::fs::read_link(place.path(name)).unwrap(), Path::new("data"), "{name}");
        }
    });
}

#[test]
fn root_replaced_placeholders_are_left_alone() {
    let lower = lower();
    let archive = Archive::new()
        .hardlink("b", "a/data")
        .file("a/data", b"of this layer")
        .hardlink("c", "b")
        .file("b", b"too")
        .finish();
    both(&archive, &[lower.path()], |place| {
        assert_eq!(place.read("a/data"), "of this layer");
        assert_eq!(place.read("b"), "too");
        assert_eq!(place.read("c"), "below");
    });
    let archive = Archive::new().hardlink("b", "a/data").file("b", b"").file("a/data", b"").finish();
    both(&archive, &[lower.path()], |place| {
        assert_eq!((place.read("b"), place.read("a/data")), (String::new(), String::new()));
    });
}

#[test]
fn root_a_link_to_what_no_layer_has_is_refused() {
    let lower = lower();
    let hiding = tempfile::tempdir().unwrap();
    std::fs::create_dir(hiding.path().join("a")).unwrap();
    rustix::fs::lsetxattr(hiding.path().join("a"), "trusted.overlay.opaque", b"y", XattrFlags::empty())
        .unwrap();
    for (target, layers) in [
        ("a/none", vec![lower.path()]),
        ("a", vec![lower.path()]),
        ("a/data", vec![hiding.path(), lower.path()]),
    ] {
        let archive = Archive::new().hardlink("x", target).finish();
        let early = Place::new().apply_then_resolve(&archive, &layers);
        let known = Place::new().apply_on(&archive, OVERLAY, &layers, Limits::default());
        for error in [early.map(drop).unwrap_err().kind(), known.map(drop).unwrap_err().kind()] {
            assert_eq!(error, Kind::InvalidArgument, "{target}");
        }
    }
    let hidden = Archive::new().file("a/.wh.data", b"").hardlink("x", "a/data").finish();
    assert!(Place::new().apply_then_resolve(&hidden, &[lower.path()]).is_err());
}

#[test]
fn root_directories_and_the_root_look_like_the_lower_ones_unless_listed() {
    let lower = lower();
    std::fs::set_permissions(lower.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let place = Place::new();
    place.apply_then_resolve(&Archive::new().file("a/x", b"").finish(), &[lower.path()]).unwrap();
    assert_eq!(place.path("a").metadata().unwrap().mode() & 0o7777, 0o2770);
    assert_eq!(place.target.metadata().unwrap().mode() & 0o7777, 0o711);
    let place = Place::new();
    let archive = Archive::new().file("a/x", b"").dir("./").dir("a").finish();
    place.apply_then_resolve(&archive, &[lower.path()]).unwrap();
    assert_eq!(place.path("a").metadata().unwrap().mode() & 0o7777, 0o755);
    assert_eq!(place.target.metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn root_lower_links_are_not_followed_out() {
    let lower = tempfile::tempdir().unwrap();
    let place = Place::new();
    std::os::unix::fs::symlink(&place.outside, lower.path().join("a")).unwrap();
    let archive = Archive::new().hardlink("x", "a/secret").file("a/y", b"").finish();
    assert!(place.apply_then_resolve(&archive, &[lower.path()]).is_err());
    place.assert_outside_untouched();
    let archive = Archive::new().hardlink("pipe", "p").finish();
    let lower = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        lower.path().join("p"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let place = Place::new();
    place.apply_then_resolve(&archive, &[lower.path()]).unwrap();
    assert!(place.path("pipe").symlink_metadata().unwrap().file_type().is_fifo());
}

#[test]
fn root_the_byte_limit_is_on_the_whole_archive() {
    let place = Place::new();
    let mut archive = Archive::new();
    for n in 0..64 {
        archive = archive.file(&format!("f{n}"), &[7; 60_000]);
    }
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let error = place.apply_on(&archive.finish(), OVERLAY, &[], limits).unwrap_err();
    assert_eq!(error.to_string(), "the archive has more than 1048576 bytes");
}
