use super::*;

fn mount_of(kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: String::new(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
    }
}

#[test]
fn options_are_told_apart() {
    let planned =
        plan(&[mount_of("overlay", "overlay", &["ro", "nosuid", "index=off", "lowerdir=/a:/b", "rslave"])])
            .unwrap();
    assert_eq!(planned[0].flags, MountFlags::RDONLY | MountFlags::NOSUID);
    assert_eq!(planned[0].data, ["index=off", "lowerdir=/a:/b"]);
    assert_eq!(planned[0].propagation, Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC));
    let planned = plan(&[mount_of("bind", "/x", &["rbind", "ro", "rw"])]).unwrap();
    assert_eq!((planned[0].bind, planned[0].flags), (Some(Bind::Recursive), MountFlags::empty()));
}

#[test]
fn a_target_may_not_leave_the_root() {
    let mut mount = mount_of("bind", "/x", &[]);
    mount.target = "/a/../../etc".into();
    assert!(plan(&[mount]).unwrap_err().to_string().contains("leaves the root filesystem"));
}

#[test]
fn mountinfo_escapes_are_read() {
    assert_eq!(unescape(br"/a\040b\134c\x"), br"/a b\c\x");
}

fn assert_root() {
    assert!(rustix::process::geteuid().is_root(), "this test mounts: run it as root");
}

#[test]
fn root_overlays_of_few_and_of_many_layers_are_mounted_and_unmounted() {
    assert_root();
    for layers in [2, 120] {
        let dir = tempfile::tempdir().unwrap();
        let mut lower = Vec::new();
        for n in 0..layers {
            let layer = dir.path().join(format!("a-rather-long-folder-name-for-a-layer-{n:04}"));
            std::fs::create_dir(&layer).unwrap();
            std::fs::write(layer.join(format!("file{n}")), "x").unwrap();
            lower.push(layer.to_str().unwrap().to_owned());
        }
        for name in ["upper", "work", "root"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let root = dir.path().join("root");
        let options = [
            format!("lowerdir={}", lower.join(":")),
            format!("upperdir={}", dir.path().join("upper").display()),
            format!("workdir={}", dir.path().join("work").display()),
            "index=off".to_owned(),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let planned = plan(&[mount_of("overlay", "overlay", &options)]).unwrap();
        execute(&planned, &root).unwrap();
        let first_and_last = [root.join("file0"), root.join(format!("file{}", layers - 1))];
        let seen = first_and_last.map(|f| f.exists());
        execute(
            &plan(&[mount_of("bind", dir.path().to_str().unwrap(), &["bind", "ro"])]).unwrap(),
            &root.join(""),
        )
        .unwrap();
        let bound = root.join("root").exists() && std::fs::write(root.join("new"), "").is_err();
        unmount_all(&root).unwrap();
        assert_eq!(seen, [true, true], "{layers} layers");
        assert!(bound, "the read-only bind mount covers the overlay");
        assert!(std::fs::read_dir(&root).unwrap().next().is_none(), "nothing is mounted any more");
    }
}

#[test]
fn root_many_layers_are_mounted_by_descriptor_on_old_kernels() {
    assert_root();
    let dir = tempfile::tempdir().unwrap();
    for name in ["one", "two", "root"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("two/file"), "x").unwrap();
    let options = format!("lowerdir={0}/one:{0}/two", dir.path().display());
    let planned = plan(&[mount_of("overlay", "overlay", &[&options])]).unwrap();
    let root = dir.path().join("root");
    planned[0].by_descriptors(&root).unwrap();
    let seen = root.join("file").exists();
    unmount_all(&root).unwrap();
    assert!(seen);
}

#[test]
fn root_a_failed_mount_undoes_those_before_it() {
    assert_root();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    let root = dir.path().join("root");
    let planned =
        plan(&[mount_of("tmpfs", "tmpfs", &["size=4k"]), mount_of("bind", "/no/such", &["bind"])]).unwrap();
    let error = execute(&planned, &root).unwrap_err().to_string();
    assert!(error.contains("/no/such"), "{error}");
    assert_eq!(below(&root), Vec::<PathBuf>::new());
}
