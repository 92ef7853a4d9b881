use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn root_the_hosts_filesystem_is_gone() {
    let b = Bundle::new(
        "ls /; cat /proc/self/mountinfo | grep -v ' - \\(proc\\|sysfs\\|tmpfs\\|devpts\\|mqueue\\|cgroup2*\\|devtmpfs\\) ' | wc -l",
    );
    let out = b.run().ok();
    assert_eq!(out, "bin\ndev\netc\nproc\nsys\ntmp\n1\n");
}

#[test]
fn root_masked_paths_are_empty_and_read_only_paths_refuse_writing() {
    let mut b = Bundle::new(
        "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; cat /etc/secret | wc -c; \
         (echo x > /proc/sys/kernel/domainname) 2>/dev/null || echo ro; (touch /etc/dir/x) 2>/dev/null || echo ro; \
         (touch /sys/firmware/x) 2>/dev/null || echo ro",
    );
    std::fs::write(b.rootfs().join("etc/secret"), "secret").unwrap();
    std::fs::create_dir(b.rootfs().join("etc/dir")).unwrap();
    b.config["linux"]["maskedPaths"]
        .as_array_mut()
        .unwrap()
        .extend([json!("/etc/secret"), json!("/not/there")]);
    b.config["linux"]["readonlyPaths"]
        .as_array_mut()
        .unwrap()
        .extend([json!("/etc/dir"), json!("/not/there")]);
    assert_eq!(b.run().ok(), "0\n0\n0\nro\nro\nro\n");
}

#[test]
fn root_a_read_only_root_cannot_be_written_but_its_mounts_can() {
    let mut b = Bundle::new(
        "(touch /x) 2>/dev/null || echo ro; touch /run/x && echo rw; (touch /sealed/x) 2>/dev/null || echo ro",
    );
    b.config["root"]["readonly"] = true.into();
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs"}));
    mounts.push(json!({"destination": "/sealed", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
    mounts.push(json!({"destination": "/sealed/below", "type": "tmpfs", "source": "tmpfs"}));
    assert_eq!(b.run().ok(), "ro\nrw\nro\n");
}

#[test]
fn root_bind_mounts_take_files_directories_and_options() {
    let mut b = Bundle::new(
        "cat /data/f /etc/hosts; (touch /data/x) 2>/dev/null || echo ro; touch /rw/x && echo rw; grep ' /data ' /proc/self/mountinfo",
    );
    let host = b.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("f"), "f\n").unwrap();
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/data", "type": "bind", "source": &host, "options": ["rbind", "ro", "nosuid", "rprivate"]}));
    mounts.push(json!({"destination": "/rw", "type": "bind", "source": "host", "options": ["bind"]}));
    mounts.push(
        json!({"destination": "/etc/hosts", "type": "bind", "source": host.join("f"), "options": ["rbind"]}),
    );
    let out = b.run().ok();
    assert!(out.starts_with("f\nf\nro\nrw\n"), "{out}");
    assert!(out.contains("ro,nosuid"), "{out}");
    assert!(!out.contains("shared:") && !out.contains("master:"), "{out}");
    assert!(host.join("x").exists());
}

#[test]
fn root_a_container_cannot_mount_onto_the_host() {
    // a bind of a shared host mount is a slave in the container, so nothing mounted below it gets back
    let mut b = Bundle::new("mount -t tmpfs none /data/m && echo mounted");
    let host = b.path().join("host");
    std::fs::create_dir_all(host.join("m")).unwrap();
    b.config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]});
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/data", "type": "bind", "source": &host, "options": ["rbind"]}));
    assert_eq!(b.run().ok(), "mounted\n");
    let info = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!info.contains(&*host.to_string_lossy()));
}

#[test]
fn root_devices_have_their_numbers_and_modes() {
    let mut b = Bundle::new(
        "cd /dev; stat -c '%n %t:%T %a %u' null zero full random urandom tty mine; readlink ptmx; readlink fd; echo x > null; head -c 3 zero | wc -c",
    );
    b.config["linux"]["devices"] =
        json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5}]);
    b.config["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]);
    assert_eq!(
        b.run().ok(),
        "null 1:3 666 0\nzero 1:5 666 0\nfull 1:7 666 0\nrandom 1:8 666 0\nurandom 1:9 666 0\ntty 5:0 666 0\nmine 1:3 640 5\n\
         pts/ptmx\n/proc/self/fd\n3\n"
    );
}

#[test]
fn root_tmpcopyup_takes_what_the_image_has() {
    let mut b = Bundle::new("cat /conf/a/b; readlink /conf/link; stat -c %a /conf/a; touch /conf/new");
    let conf = b.rootfs().join("conf");
    std::fs::create_dir_all(conf.join("a")).unwrap();
    std::fs::write(conf.join("a/b"), "b\n").unwrap();
    std::os::unix::fs::symlink("a/b", conf.join("link")).unwrap();
    b.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/conf", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    assert_eq!(b.run().ok(), "b\na/b\n755\n");
    assert!(!conf.join("new").exists());
}

#[test]
fn root_what_tmpcopyup_copies_is_charged_to_the_container() {
    const SIZE: usize = 16 << 20;
    let mut b = Bundle::new("true");
    let conf = b.rootfs().join("conf");
    std::fs::create_dir(&conf).unwrap();
    std::fs::write(conf.join("large"), vec![b'x'; SIZE]).unwrap();
    // before those of the template, of which one shows the cgroup
    b.config["mounts"].as_array_mut().unwrap().insert(
        0,
        json!({"destination": "/conf", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
    );
    b.write_config();
    b.call(&["create", &b.id]).ok();
    let read = |file: &str| b.cgroups().iter().find_map(|dir| std::fs::read_to_string(dir.join(file)).ok());
    let charged = read("memory.usage_in_bytes").or_else(|| read("memory.current")).expect("a memory cgroup");
    let charged: usize = charged.trim().parse().unwrap();
    assert!(charged >= SIZE, "{charged}");
}

#[test]
fn root_no_pivot_ends_in_the_same_root() {
    let b = Bundle::new("ls / | tr '\\n' ' '; ls /proc/1/root/ | wc -l; ls -d /..");
    b.write_config();
    assert_eq!(b.call(&["run", "--no-pivot", &b.id]).ok(), "bin dev etc proc sys tmp 6\n/..\n");
}

#[test]
fn root_an_unknown_option_is_explained_by_the_kernel() {
    let mut b = Bundle::new("true");
    b.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["bogus=1"]}));
    b.run().fails_with("mounts[7]").fails_with("bogus");
    b.assert_nothing_left();
}

#[test]
fn root_cgroup_mount_shows_the_containers_own() {
    let b = Bundle::new(
        "cat /proc/self/cgroup | grep -v '^0::' | grep -v ':/$' | wc -l; ls /sys/fs/cgroup | wc -w; (mkdir /sys/fs/cgroup/x) 2>/dev/null || echo ro",
    );
    let out = b.run().ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[0], lines[2]), ("0", "ro"));
    assert!(lines[1].parse::<u32>().unwrap() > 0);
}

#[test]
fn root_an_idmapped_mount_shows_other_owners() {
    let mut b = Bundle::new("stat -c %u:%g /data/f");
    let host = b.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("f"), "").unwrap();
    let map = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    b.config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/data", "type": "bind", "source": &host, "options": ["bind", "idmap"],
        "uidMappings": map, "gidMappings": map
    }));
    assert_eq!(b.run().ok(), "5000:5000\n");
}

/// In a mount namespace of the test's own, since the volume has to be a shared mount of the host.
fn run_with_shared_volume(b: &Bundle, after: &str) -> String {
    b.write_config();
    let script = format!(
        "mkdir {0}/vol && mount -t tmpfs vol {0}/vol && mount --make-shared {0}/vol && mkdir {0}/vol/m && \
         {1} --root {0}/state run {2} && {after}",
        b.path().display(),
        crate::bundle::RUNW,
        b.id
    );
    let out = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .current_dir(b.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    crate::bundle::Ended::from(out).ok()
}

#[test]
fn root_only_a_shared_root_lets_mounts_through_to_the_host() {
    for (propagation, expected) in [("rshared", "1\n"), ("rslave", "0\n")] {
        let mut b = Bundle::new("mount -t tmpfs inner /vol/m");
        let caps = json!(["CAP_SYS_ADMIN"]);
        b.config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
        b.config["linux"]["rootfsPropagation"] = propagation.into();
        b.config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/vol", "type": "bind", "source": "vol", "options": ["rbind", propagation]
        }));
        let count = "(grep -c 'vol/m ' /proc/self/mountinfo || true)";
        assert_eq!(run_with_shared_volume(&b, count), expected, "{propagation}");
    }
}

#[test]
fn root_a_path_that_is_masked_twice_is_masked_once() {
    let mut b = Bundle::new("grep -c ' /hidden ' /proc/self/mountinfo");
    std::fs::create_dir(b.rootfs().join("hidden")).unwrap();
    b.config["linux"]["maskedPaths"] = json!(["/hidden", "/hidden", "/etc/../hidden/"]);
    assert_eq!(b.run().ok(), "1\n");
}

/// A tree of mounts, parts of which are then bound again, in itself and elsewhere.
fn bind_mounts_of_mounts(mapped: bool) -> String {
    let mut b = Bundle::new("cat /final/x/y/z/z/x/y/z/x/file; stat -c %u /final/x/y/z/z/x/y/z/x/file");
    let rootfs = b.rootfs();
    for sub in ["a/x", "b/y", "c/z"] {
        std::fs::create_dir_all(b.path().join("src").join(sub)).unwrap();
        std::fs::write(b.path().join("src").join(sub).join("file"), format!("{sub}\n")).unwrap();
    }
    std::fs::create_dir(rootfs.join("mnt")).unwrap();
    let plain = [("a", "/mnt"), ("b", "/mnt/x"), ("c", "/mnt/x/y"), ("a", "/mnt/x/y/z")];
    let own = [("mnt/x", "mnt/x/y/z/x"), ("mnt/x/y", "mnt/x/y/z"), ("mnt", "final")];
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    for (source, target) in plain {
        let source = format!("src/{source}");
        mounts.push(
            json!({"destination": target, "type": "bind", "source": source, "options": ["bind", "rprivate"]}),
        );
    }
    for (source, target) in own {
        let mut mount = json!({"destination": rootfs.join(target), "type": "bind", "source": rootfs.join(source),
            "options": ["rbind", "rprivate"]});
        if mapped {
            mount["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            mount["gidMappings"] = mount["uidMappings"].clone();
        }
        mounts.push(mount);
    }
    if mapped {
        b.config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        b.config["linux"]["gidMappings"] = b.config["linux"]["uidMappings"].clone();
        b.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        crate::bundle::give_to(&rootfs, 100_000);
        std::fs::set_permissions(b.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    }
    let out = b.run().ok();
    b.assert_nothing_left();
    out
}

#[test]
fn root_a_source_can_be_a_mount_made_before() {
    assert_eq!(bind_mounts_of_mounts(false), "a/x\n0\n");
}

#[test]
fn root_a_source_in_a_user_namespace_can_be_a_mount_made_before_and_id_mapped() {
    // the mapping is that of the top of each tree, which the last bind mount makes anew; the file below is not mapped
    assert_eq!(bind_mounts_of_mounts(true).lines().next(), Some("a/x"));
}

#[test]
fn root_a_source_inside_the_root_does_not_leave_it_by_a_symlink() {
    let mut b = Bundle::new("ls /seen");
    std::fs::create_dir_all(b.path().join("secret/host")).unwrap();
    std::os::unix::fs::symlink(b.path().join("secret"), b.rootfs().join("link")).unwrap();
    let source = b.rootfs().join("link");
    b.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/seen", "type": "bind", "source": source, "options": ["bind"]}));
    b.run().fails_with("No such file or directory");
}

#[test]
fn root_a_tmpfs_has_the_mode_of_what_it_hides_or_its_own() {
    let mut b = Bundle::new(
        "stat -c %a /there /given /not/there /copied; grep -c 'tmpfs /not/there .*mode=' /proc/mounts; grep -o 'tmpfs /there .*mode=[0-7]*' /proc/mounts | grep -o 'mode=.*'",
    );
    for (dir, mode) in [("there", 0o710), ("given", 0o710), ("copied", 0o751)] {
        let dir = b.rootfs().join(dir);
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    for (target, option) in
        [("/there", "rw"), ("/given", "mode=1500"), ("/not/there", "rw"), ("/copied", "tmpcopyup")]
    {
        mounts.push(json!({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": [option]}));
    }
    assert_eq!(b.run().out, "710\n1500\n1777\n751\n0\nmode=710\n");
}
