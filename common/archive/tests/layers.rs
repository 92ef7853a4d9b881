//! What honest archives become: every kind of entry, attributes, whiteouts, digests.

#[allow(dead_code)]
mod support;

use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use support::{Archive, OVERLAY, Place, xattr};
use tar::EntryType;
use wharf_archive::{Compression, Limits, Whiteouts};
use wharf_vocab::Digest;

fn is_whiteout(path: &Path) -> bool {
    let meta = path.symlink_metadata().unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    xattr(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
}

#[test]
fn root_every_kind_of_entry_is_made() {
    let place = Place::new();
    let mut setuid = Archive::header(EntryType::Regular, "bin/su", 3);
    setuid.set_mode(0o4755);
    setuid.set_uid(7);
    setuid.set_gid(8);
    let archive = Archive::new()
        .dir("./")
        .dir("bin/")
        .raw(setuid, b"su\n")
        .hardlink("bin/su2", "./bin/su")
        .symlink("abs", "/bin/su")
        .symlink("rel", "bin")
        .device(EntryType::Char, "null", 1, 3)
        .device(EntryType::Block, "disk", 7, 0)
        .device(EntryType::Fifo, "pipe", 0, 0)
        .file("empty", b"")
        .file("no/parent/listed", b"x");
    place.apply(&archive.finish(), OVERLAY).unwrap();
    let su = place.path("bin/su").metadata().unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()), (0o4755, 7, 8, 1_000_000_000));
    assert_eq!((su.nlink(), su.ino()), (2, place.path("bin/su2").metadata().unwrap().ino()));
    assert_eq!(place.path("bin").metadata().unwrap().mtime(), 1_000_000_000, "set after the files in it");
    assert_eq!(std::fs::read_link(place.path("abs")).unwrap(), Path::new("/bin/su"));
    assert_eq!(place.path("abs").symlink_metadata().unwrap().mtime(), 1_000_000_000);
    let null = place.path("null").metadata().unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
    assert!(place.path("disk").metadata().unwrap().file_type().is_block_device());
    assert!(place.path("pipe").metadata().unwrap().file_type().is_fifo());
    assert_eq!(place.read("no/parent/listed"), "x");
}

#[test]
fn root_extended_headers_give_names_times_and_attributes() {
    let place = Place::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    // CAP_NET_RAW permitted and effective, version 2
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let archive = Archive::new()
        .pax(&[("path", long.as_bytes()), ("mtime", b"1234567890.123456789")])
        .file("short", b"1")
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.colour", b"blue\0green"),
        ])
        .file("ping", b"2")
        .pax(&[("linkpath", "t".repeat(300).as_bytes())])
        .symlink("link", "x");
    place.apply(&archive.finish(), OVERLAY).unwrap();
    let meta = place.path(&long).metadata().unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!(xattr(&place.path("ping"), "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr(&place.path("ping"), "user.colour").as_deref(), Some(&b"blue\0green"[..]));
    assert_eq!(std::fs::read_link(place.path("link")).unwrap().as_os_str().len(), 300);
}

#[test]
fn root_sparse_files_of_every_version_have_holes() {
    let hole = 1u64 << 20;
    let size = (hole + 4).to_string();
    let old = {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..3].copy_from_slice(b"old");
        header.set_entry_type(EntryType::GNUSparse);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(4);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].set_offset(hole);
        gnu.sparse[0].set_length(4);
        gnu.set_real_size(hole + 4);
        Archive::new().raw(header, b"data")
    };
    let map = format!("{hole},4");
    let v01 = Archive::new()
        .pax(&[
            ("GNU.sparse.name", b"v01"),
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.map", map.as_bytes()),
        ])
        .file("GNUSparseFile.1/v01", b"data");
    let v00 = Archive::new()
        .pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.offset", hole.to_string().as_bytes()),
            ("GNU.sparse.numbytes", b"4"),
        ])
        .file("v00", b"data");
    let mut stored = format!("1\n{hole}\n4\n").into_bytes();
    stored.resize(512, 0);
    stored.extend_from_slice(b"data");
    let v10 = Archive::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"v10"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ])
        .file("GNUSparseFile.1/v10", &stored);
    for (name, archive) in [("old", old), ("v01", v01), ("v00", v00), ("v10", v10)] {
        let place = Place::new();
        place.apply(&archive.file("after", b"next").finish(), OVERLAY).unwrap();
        let content = std::fs::read(place.path(name)).unwrap();
        assert_eq!(content.len() as u64, hole + 4, "{name}");
        assert!(content[..hole as usize].iter().all(|&b| b == 0) && content.ends_with(b"data"), "{name}");
        assert!(place.path(name).metadata().unwrap().blocks() < 64, "{name} has a hole");
        assert_eq!(place.read("after"), "next");
    }
}

#[test]
fn root_later_entries_replace_earlier_ones() {
    let place = Place::new();
    let archive = Archive::new()
        .dir("a")
        .file("a/inner", b"1")
        .file("a", b"now a file")
        .file("b", b"1")
        .dir("b")
        .file("b/inner", b"now in a directory")
        .symlink("c", "a")
        .file("c", b"now a file")
        .file("d", b"long first content")
        .file("d", b"short")
        .file("e", b"e")
        .hardlink("e", "e");
    place.apply(&archive.finish(), OVERLAY).unwrap();
    assert_eq!(place.read("a"), "now a file");
    assert_eq!(place.read("b/inner"), "now in a directory");
    assert_eq!(place.read("c"), "now a file");
    assert_eq!((place.read("d"), place.read("e")), ("short".into(), "e".into()));
}

#[test]
fn root_whiteouts_become_overlays_marks() {
    let place = Place::new();
    let archive = Archive::new()
        .file("gone/.wh.file", b"")
        .dir("fresh")
        .file("fresh/.wh..wh..opq", b"")
        .file("fresh/new", b"1")
        .file(".wh..wh.plnk", b"")
        .file("kept", b"mine")
        .file(".wh.kept", b"")
        .dir("again")
        .file(".wh.again", b"");
    place.apply(&archive.finish(), OVERLAY).unwrap();
    assert!(is_whiteout(&place.path("gone/file")));
    assert!(is_opaque(&place.path("fresh")) && !is_opaque(&place.path("gone")));
    assert_eq!(place.read("kept"), "mine", "a whiteout hides what is below, not this layer's own");
    assert!(is_opaque(&place.path("again")));
    assert!(!place.exists(".wh..wh.plnk"));
}

#[test]
fn root_a_directory_after_its_whiteout_is_opaque() {
    let place = Place::new();
    let archive = Archive::new()
        .file(".wh.a", b"")
        .dir("a")
        .file(".wh.b", b"")
        .file("b/inner", b"1")
        .file(".wh.c", b"");
    place.apply(&archive.file("c", b"now a file").finish(), OVERLAY).unwrap();
    assert!(is_opaque(&place.path("a")) && is_opaque(&place.path("b")));
    assert_eq!(place.read("c"), "now a file");
}

#[test]
fn root_userxattr_moves_the_mark() {
    let place = Place::new();
    let archive = Archive::new().dir("a").file("a/.wh..wh..opq", b"").finish();
    place.apply(&archive, Whiteouts::Overlay { userxattr: true }).unwrap();
    assert_eq!(xattr(&place.path("a"), "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
    assert!(!is_opaque(&place.path("a")));
}

#[test]
fn root_whiteouts_of_a_plain_tree_remove_what_was_there_before() {
    let place = Place::new();
    for dir in ["d/deep", "o/old"] {
        std::fs::create_dir_all(place.path(dir)).unwrap();
    }
    std::fs::write(place.path("f"), "1").unwrap();
    let archive = Archive::new()
        .file(".wh.d", b"")
        .file(".wh.f", b"")
        .file("o/new/file", b"1")
        .file("o/.wh..wh..opq", b"")
        .file("own", b"1")
        .file(".wh.own", b"")
        .file("absent/.wh.x", b"");
    place.apply(&archive.finish(), Whiteouts::Remove).unwrap();
    assert!(!place.exists("d") && !place.exists("f") && !place.exists("o/old") && !place.exists("absent"));
    assert!(place.exists("o/new/file") && place.exists("own"));
}

#[test]
fn root_unlisted_parents_look_as_they_do_below() {
    let lower = tempfile::tempdir().unwrap();
    let below = lower.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    std::os::unix::fs::chown(&below, Some(5), Some(6)).unwrap();
    std::fs::set_permissions(&below, std::os::unix::fs::PermissionsExt::from_mode(0o1770)).unwrap();
    rustix::fs::lsetxattr(&below, "user.kept", b"yes", rustix::fs::XattrFlags::empty()).unwrap();
    let place = Place::new();
    let archive = Archive::new().file("a/b/c", b"").finish();
    place.apply_on(&archive, OVERLAY, &[lower.path()], Limits::default()).unwrap();
    let meta = place.path("a/b").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (5, 6, 0o1770));
    assert_eq!(xattr(&place.path("a/b"), "user.kept").as_deref(), Some(&b"yes"[..]));
}

#[test]
fn root_both_digests_cover_every_byte() {
    let plain = Archive::new().file("a", &[b'x'; 100_000]).finish();
    // an archive may be padded beyond its end, and still each byte counts
    let plain = [plain, vec![0; 9000]].concat();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    for (stream, compression) in [
        (plain.clone(), Compression::None),
        (gz.finish().unwrap(), Compression::Gzip),
        (zstd::encode_all(plain.as_slice(), 3).unwrap(), Compression::Zstd),
    ] {
        let place = Place::new();
        let applied = place.apply(&stream, OVERLAY).unwrap();
        assert_eq!(applied.compression, compression);
        assert_eq!(applied.compressed, (Some(Digest::sha256(&stream)), stream.len() as u64));
        assert_eq!(applied.uncompressed, (Digest::sha256(&plain), plain.len() as u64));
        assert_eq!(applied.entries, 1);
    }
}

#[test]
fn root_an_empty_stream_is_an_empty_layer() {
    let place = Place::new();
    assert_eq!(place.apply(b"", OVERLAY).unwrap().entries, 0);
    assert_eq!(place.apply(&[0; 1024], OVERLAY).unwrap().entries, 0);
}
