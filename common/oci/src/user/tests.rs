use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{CWD, OFlags};

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    # a comment\n\
    \n\
    app:x:1000:1001:App:/home/app:/bin/sh\n\
    1234:x:77:77::/:\n\
    huge:x:4294967296:0::/:\n\
    minus:x:-1:0::/:\n\
    short:x\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\naudio:x:29:other,app\nbig:x:4294967295:app2\n";

fn files() -> Files {
    Files { passwd: Some(PASSWD.into()), group: Some(GROUP.into()) }
}

fn ids(spec: &str) -> Result<(u32, u32, Vec<u32>), String> {
    resolve(spec, &files(), &[]).map(|i| (i.uid, i.gid, i.additional_gids)).map_err(|e| e.to_string())
}

#[test]
fn names_and_numbers_find_their_entry() {
    assert_eq!(ids("").unwrap(), (0, 0, vec![10]));
    assert_eq!(ids("root").unwrap(), (0, 0, vec![10]));
    assert_eq!(ids("app").unwrap(), (1000, 1001, vec![10, 29]));
    assert_eq!(ids("1000").unwrap(), (1000, 1001, vec![10, 29]));
    assert_eq!(ids("5000").unwrap(), (5000, 0, vec![]));
    assert_eq!(resolve("app", &files(), &[]).unwrap().home.as_deref(), Some("/home/app"));
}

#[test]
fn a_given_group_takes_the_place_of_all_others() {
    assert_eq!(ids("app:wheel").unwrap(), (1000, 10, vec![]));
    assert_eq!(ids("1000:5").unwrap(), (1000, 5, vec![]));
    assert_eq!(ids(":wheel").unwrap(), (0, 10, vec![]));
}

#[test]
fn a_number_is_an_id_even_if_it_is_somebodys_name() {
    assert_eq!(ids("1234").unwrap().0, 1234);
}

#[test]
fn further_groups_are_added_once() {
    let add = ["audio", "29", "500"].map(str::to_owned);
    assert_eq!(resolve("app:wheel", &files(), &add).unwrap().additional_gids, [29, 500]);
    let error = resolve("app", &files(), &["none".to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), "unable to find group none: no matching entries in group file");
}

#[test]
fn unknown_names_are_errors_in_dockers_words() {
    assert_eq!(ids("nobody").unwrap_err(), "unable to find user nobody: no matching entries in passwd file");
    assert_eq!(ids("app:none").unwrap_err(), "unable to find group none: no matching entries in group file");
}

#[test]
fn cve_2024_40635_and_cve_2026_46680_overflow_never_becomes_root() {
    let range = "uids and gids must be in range 0-2147483647";
    for spec in [
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "99999999999999999999999999",
        "-1",
        "-4294967296",
        "+4294967296",
        "0:4294967296",
        "0:-1",
        "app:2147483648",
    ] {
        assert_eq!(ids(spec).unwrap_err(), range, "{spec}");
    }
    for spec in ["huge", "minus", "short", "app:big"] {
        let error = ids(spec).unwrap_err();
        assert!(error.contains(range), "{spec}: {error}");
    }
    assert!(resolve("", &files(), &["4294967296".to_owned()]).is_err());
    assert_eq!(ids("2147483647").unwrap().0, MAX_ID);
}

#[test]
fn without_files_numbers_work_and_names_do_not() {
    let none = Files::default();
    assert_eq!(resolve("", &none, &[]).unwrap(), Ids::default());
    assert_eq!(resolve("5:6", &none, &["7".into()]).unwrap().additional_gids, [7]);
    assert!(resolve("root", &none, &[]).is_err());
}

proptest! {
    #[test]
    fn only_root_is_root(spec in "[0-9+: -]{0,24}", passwd in "[a-z0-9:\n]{0,80}") {
        let files = Files { passwd: Some(passwd.clone().into_bytes()), group: None };
        if let Ok(ids) = resolve(&spec, &files, &[]) {
            let user = spec.split(':').next().unwrap();
            if ids.uid == 0 {
                let digits = user.trim_start_matches(['+', '-']);
                prop_assert!(digits.bytes().all(|b| b == b'0'), "{spec:?} with {passwd:?} became root");
            }
        }
    }
}

fn root(dir: &Path) -> OwnedFd {
    openat_dir(dir)
}

fn openat_dir(dir: &Path) -> OwnedFd {
    rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn links_stay_inside_the_root() {
    let outside = tempfile::tempdir().unwrap();
    write(&outside.path().join("passwd"), "evil:x:0:0::/:");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    symlink(outside.path().join("passwd"), dir.path().join("etc/passwd")).unwrap();
    symlink("../../../../../../etc/group", dir.path().join("etc/group")).unwrap();
    let found = Files::read(root(dir.path()).as_fd());
    match found {
        Ok(f) => assert_eq!(f.passwd, None),
        Err(e) => assert!(e.to_string().contains("group"), "{e}"),
    }
    fs::remove_file(dir.path().join("etc/group")).unwrap();
    assert_eq!(Files::read(root(dir.path()).as_fd()).unwrap(), Files::default());
    let inner = dir.path().join(outside.path().strip_prefix("/").unwrap()).join("passwd");
    write(&inner, "in:x:5:5::/:");
    assert_eq!(Files::read(root(dir.path()).as_fd()).unwrap().passwd.as_deref(), Some(&b"in:x:5:5::/:"[..]));
}

#[test]
fn a_fifo_or_directory_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("etc")).unwrap();
    let fifo = dir.path().join("etc/passwd");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let error = Files::read(root(dir.path()).as_fd()).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    let error = Files::read_layers(&[dir.path().to_owned()]).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn layers_are_merged_as_overlayfs_does() {
    let dir = tempfile::tempdir().unwrap();
    let layer = |n: &str| dir.path().join(n);
    write(&layer("low").join("etc/passwd"), "low");
    write(&layer("low").join("etc/group"), "low");
    write(&layer("mid").join("etc/group"), "mid");
    fs::create_dir_all(layer("up").join("usr")).unwrap();
    let stack = ["up", "mid", "low"].map(layer);
    let f = Files::read_layers(&stack).unwrap();
    assert_eq!((f.passwd.as_deref(), f.group.as_deref()), (Some(&b"low"[..]), Some(&b"mid"[..])));
    // a link that leads through another layer
    fs::create_dir_all(layer("up").join("etc")).unwrap();
    symlink("/usr/../data/pw", layer("up").join("etc/passwd")).unwrap();
    write(&layer("mid").join("data/pw"), "linked");
    assert_eq!(Files::read_layers(&stack).unwrap().passwd.as_deref(), Some(&b"linked"[..]));
    // a link in a circle
    symlink("group", layer("up").join("etc/group")).unwrap();
    assert!(Files::read_layers(&stack).is_err());
}

#[test]
fn root_whiteouts_and_opaque_directories_hide_what_is_below() {
    assert!(rustix::process::geteuid().is_root(), "this test makes device nodes: run it as root");
    let dir = tempfile::tempdir().unwrap();
    let (up, low) = (dir.path().join("up"), dir.path().join("low"));
    write(&low.join("etc/passwd"), "low");
    fs::create_dir_all(up.join("etc")).unwrap();
    let white = up.join("etc/passwd");
    rustix::fs::mknodat(CWD, &white, FileType::CharacterDevice, Mode::from_raw_mode(0o600), 0).unwrap();
    assert_eq!(Files::read_layers(&[up.clone(), low.clone()]).unwrap(), Files::default());
    fs::remove_file(&white).unwrap();
    assert!(Files::read_layers(&[up.clone(), low.clone()]).unwrap().passwd.is_some());
    let etc = openat_dir(&up.join("etc"));
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&etc));
    rustix::fs::setxattr(path, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    assert_eq!(Files::read_layers(&[up, low]).unwrap(), Files::default());
}
