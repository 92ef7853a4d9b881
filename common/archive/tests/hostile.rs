//! Archives that try to leave the target, to exhaust the machine or to confuse the overlay: CVE-2018-15664 and its
//! family (links followed while unpacking), CVE-2024-24557's kin, decompression bombs, malformed headers.

#[allow(dead_code)]
mod support;

use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use support::{Archive, OVERLAY, Place, xattr};
use tar::EntryType;
use wharf_archive::{Limits, Whiteouts};
use wharf_kinds::Kind;

const BOTH: [Whiteouts; 2] = [OVERLAY, Whiteouts::Remove];

#[test]
fn root_paths_that_leave_the_target_are_refused() {
    for path in ["../outside/secret", "a/../../outside/secret", "/../outside/x", "..", "a/../.."] {
        for whiteouts in BOTH {
            let place = Place::new();
            let error = place.apply(&Archive::new().file(path, b"evil").finish(), whiteouts).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
            assert!(error.to_string().contains("leads outside"), "{error}");
            place.assert_outside_untouched();
        }
    }
}

#[test]
fn root_absolute_paths_start_at_the_target() {
    let place = Place::new();
    place.apply(&Archive::new().file("/etc/passwd", b"mine").finish(), OVERLAY).unwrap();
    assert_eq!(place.read("etc/passwd"), "mine");
}

#[test]
fn root_files_behind_a_link_to_outside_stay_inside() {
    for whiteouts in BOTH {
        let place = Place::new();
        let outside = place.outside.to_str().unwrap();
        for (target, lands) in [(outside, true), ("../outside", false), ("../../../../../../outside", false)]
        {
            let archive =
                Archive::new().symlink("link", target).file("link/secret", b"evil").file("link/new", b"x");
            place.apply(&archive.finish(), whiteouts).unwrap();
            place.assert_outside_untouched();
            let inside = if lands { outside.trim_start_matches('/') } else { "outside" };
            assert_eq!(
                place.read(&format!("{inside}/secret")),
                "evil",
                "the link is read as the container would"
            );
        }
    }
}

#[test]
fn root_a_file_replaces_a_link_rather_than_writing_through_it() {
    for whiteouts in BOTH {
        let place = Place::new();
        let secret = place.outside.join("secret");
        let archive = Archive::new().symlink("a", secret.to_str().unwrap()).file("a", b"mine");
        place.apply(&archive.finish(), whiteouts).unwrap();
        place.assert_outside_untouched();
        assert!(place.path("a").symlink_metadata().unwrap().is_file());
        assert_eq!(place.read("a"), "mine");
    }
}

#[test]
fn root_directories_devices_and_whiteouts_do_not_follow_a_link_in_the_last_place() {
    for whiteouts in BOTH {
        let place = Place::new();
        let outside = place.outside.to_str().unwrap();
        let mut directory = Archive::header(EntryType::Directory, "a", 0);
        directory.set_mode(0o777);
        directory.set_uid(1234);
        let archive = Archive::new()
            .symlink("a", outside)
            .raw(directory, b"")
            .symlink("b", &format!("{outside}/fifo"))
            .device(EntryType::Fifo, "b", 0, 0)
            .symlink("c", &format!("{outside}/secret"))
            .file(".wh.c", b"");
        place.apply(&archive.finish(), whiteouts).unwrap();
        place.assert_outside_untouched();
        assert_ne!(place.outside.metadata().unwrap().uid(), 1234);
        assert!(place.path("a").symlink_metadata().unwrap().is_dir());
        assert!(place.path("b").symlink_metadata().unwrap().file_type().is_fifo());
    }
}

#[test]
fn root_hard_links_reach_nothing_outside() {
    for target in ["../outside/secret", "/../outside/secret"] {
        let place = Place::new();
        let error = place.apply(&Archive::new().hardlink("a", target).finish(), OVERLAY).unwrap_err();
        assert!(error.to_string().contains("leads outside"), "{error}");
        place.assert_outside_untouched();
    }
    // through a link to outside: inside of the target there is nothing of that name
    let place = Place::new();
    let archive = Archive::new().symlink("dir", place.outside.to_str().unwrap()).hardlink("a", "dir/secret");
    let error = place.apply(&archive.finish(), OVERLAY).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    place.assert_outside_untouched();
    // to a link: the link itself is linked, and what is then written replaces it
    let place = Place::new();
    let secret = place.outside.join("secret");
    let archive = Archive::new()
        .symlink("s", secret.to_str().unwrap())
        .hardlink("h", "s")
        .file("h", b"evil")
        .file("s", b"evil");
    place.apply(&archive.finish(), OVERLAY).unwrap();
    place.assert_outside_untouched();
}

#[test]
fn root_a_directory_swapped_for_a_link_is_looked_up_again() {
    for whiteouts in BOTH {
        let place = Place::new();
        let outside = place.outside.to_str().unwrap();
        let archive = Archive::new()
            .dir("d/e")
            .file("d/e/one", b"1")
            .symlink("d", outside)
            .file("d/e/secret", b"evil")
            .file("d/secret", b"evil");
        place.apply(&archive.finish(), whiteouts).unwrap();
        place.assert_outside_untouched();
        assert!(place.path("d").symlink_metadata().unwrap().is_symlink());
    }
}

#[test]
fn root_magic_links_lead_nowhere() {
    let place = Place::new();
    let fd = std::fs::File::open(&place.outside).unwrap();
    let magic = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let archive = Archive::new().symlink("m", &magic).file("m/secret", b"evil");
    place.apply(&archive.finish(), OVERLAY).unwrap();
    place.assert_outside_untouched();
}

#[test]
fn root_links_in_a_circle_are_an_error() {
    let place = Place::new();
    let archive = Archive::new().symlink("a", "b").symlink("b", "a").file("a/x", b"");
    let error = place.apply(&archive.finish(), OVERLAY).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
}

#[test]
fn root_deep_paths_and_long_chains_of_links_need_no_stack() {
    let place = Place::new();
    let deep = "d/".repeat(2000);
    let mut archive = Archive::new().pax(&[("path", format!("{deep}f").as_bytes())]).file("x", b"deep");
    // each link leads through the next, and all of them to nothing
    for link in 0..45 {
        let target = format!("l{}/{}", link + 1, "e/".repeat(1000));
        archive = archive.pax(&[("linkpath", target.as_bytes())]).symlink(&format!("l{link}"), "x");
    }
    let archive = archive.file("l0/f", b"").finish();
    let run = std::thread::Builder::new().stack_size(256 << 10);
    let thread = run.spawn(move || {
        let outcome = place.apply(&archive, OVERLAY).map(|_| ()).map_err(|e| e.kind());
        let parent = std::fs::File::open(place.target.parent().unwrap()).unwrap();
        wharf_archive::remove_tree(std::os::fd::AsFd::as_fd(&parent), c"target").unwrap();
        outcome
    });
    assert_eq!(thread.unwrap().join().unwrap(), Err(Kind::InvalidArgument));
}

#[test]
fn root_whiteouts_name_one_file_and_no_path() {
    for name in [".wh.", ".wh..", ".wh..."] {
        let place = Place::new();
        let error = place.apply(&Archive::new().dir("d").file(&format!("d/{name}"), b"").finish(), OVERLAY);
        let error = error.unwrap_err();
        assert!(error.to_string().contains("whiteout"), "{error}");
        place.assert_outside_untouched();
    }
}

#[test]
fn root_overlay_attributes_of_an_archive_are_dropped() {
    let place = Place::new();
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.redirect", b"/../../secrets"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.whiteout", b"y"),
        ("SCHILY.xattr.trusted.kept", b"yes"),
    ];
    place.apply(&Archive::new().pax(records).dir("d").pax(records).file("f", b"").finish(), OVERLAY).unwrap();
    for name in ["d", "f"] {
        let path = place.path(name);
        assert_eq!(xattr(&path, "trusted.kept").as_deref(), Some(&b"yes"[..]));
        for overlay in ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.whiteout"] {
            assert_eq!(xattr(&path, overlay), None, "{name} {overlay}");
        }
    }
}

#[test]
fn root_a_short_archive_is_an_error() {
    let whole = Archive::new().file("a", &[7; 5000]).file("b", b"b").finish();
    for cut in [100, 511, 513, 3000, 5600 + 100] {
        let place = Place::new();
        let error = place.apply(&whole[..cut], OVERLAY).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{cut}: {error}");
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(
        &Archive::new().file("a", &(0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).finish(),
    )
    .unwrap();
    let gz = gz.finish().unwrap();
    for cut in [5, 12, gz.len() / 2, gz.len() - 4] {
        let place = Place::new();
        let error = place.apply(&gz[..cut], OVERLAY).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{cut}: {error}");
    }
}

#[test]
fn root_sizes_that_lie_are_an_error_and_cost_no_memory() {
    let huge_name = Archive::new().raw(Archive::header(EntryType::GNULongName, "n", 1 << 33), b"");
    let huge_pax = Archive::new().raw(Archive::header(EntryType::XHeader, "n", 1 << 33), b"");
    let long_path = "x/".repeat(3000);
    let long = Archive::new().pax(&[("path", long_path.as_bytes())]).file("f", b"");
    let negative = {
        let mut header = Archive::header(EntryType::Regular, "n", 0);
        header.as_mut_bytes()[124..136].copy_from_slice(&[0xff; 12]);
        Archive::new().raw(header, b"")
    };
    let pax_size = Archive::new().pax(&[("size", b"18446744073709551615")]).file("f", b"");
    let nul = Archive::new().pax(&[("path", b"a\0b")]).file("f", b"");
    let huge_id = Archive::new().pax(&[("uid", b"4294967296")]).file("f", b"");
    let specials = (0..100).fold(Archive::new(), |a, _| a.pax(&[("mtime", b"1")])).file("f", b"");
    for (what, archive) in [
        ("name", huge_name),
        ("pax", huge_pax),
        ("path", long),
        ("negative", negative),
        ("size", pax_size),
        ("nul", nul),
        ("uid", huge_id),
        ("specials", specials),
    ] {
        let place = Place::new();
        let error = place.apply(&archive.finish(), OVERLAY).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{what}: {error}");
    }
}

#[test]
fn root_sparse_maps_that_lie_are_an_error() {
    for (size, map) in [
        ("10", "0,20"),
        ("100", "50,10,40,10"),
        ("100", "18446744073709551615,2"),
        ("9223372036854775808", "0,4"),
        ("100", "0"),
        ("100", "0,3"),
    ] {
        let place = Place::new();
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        let error =
            place.apply(&Archive::new().pax(records).file("f", b"data").finish(), OVERLAY).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{size} {map}: {error}");
    }
}

#[test]
fn root_bombs_are_bounded() {
    let place = Place::new();
    let limits = Limits { entries: 10, bytes: 1 << 20 };
    let many = (0..11).fold(Archive::new(), |a, i| a.file(&format!("f{i}"), b"")).finish();
    let error = place.apply_on(&many, OVERLAY, &[], limits).unwrap_err();
    assert!(error.to_string().contains("more than 10 entries"), "{error}");
    // a megabyte of zeros in a kilobyte
    let bomb = zstd::encode_all(vec![0; 1 << 26].as_slice(), 19).unwrap();
    let error = place.apply_on(&bomb, OVERLAY, &[], limits).unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
    let big =
        Archive::new().raw(Archive::header(EntryType::Regular, "big", 1 << 21), &vec![0; 1 << 21]).finish();
    assert!(place.apply_on(&big, OVERLAY, &[], limits).is_err());
    assert!(!place.exists("big"));
}

#[test]
fn root_garbage_is_an_error() {
    for garbage in
        [vec![1; 4096], b"<html>not found</html>".repeat(100), (0..=255).cycle().take(10_000).collect()]
    {
        let place = Place::new();
        let error = place.apply(&garbage, OVERLAY).unwrap_err();
        assert!(error.to_string().contains("not a tar archive"), "{error}");
        assert_eq!(std::fs::read_dir(&place.target).unwrap().count(), 0);
    }
}

#[test]
fn root_a_file_in_the_way_of_a_directory_is_an_error() {
    let place = Place::new();
    let error = place.apply(&Archive::new().file("a", b"").file("a/b", b"").finish(), OVERLAY).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
}

#[test]
fn root_unknown_types_are_an_error() {
    let place = Place::new();
    let error = place
        .apply(&Archive::new().raw(Archive::header(EntryType::new(b'Z'), "x", 0), b"").finish(), OVERLAY);
    assert!(error.unwrap_err().to_string().contains("unknown type 'Z'"));
}
