use super::*;

fn mounts(json: serde_json::Value) -> Vec<Mount> {
    serde_json::from_value(json).expect("mounts")
}

fn plan_json(json: serde_json::Value) -> Result<Vec<MountOp>, ConfigError> {
    plan(
        &mounts(json),
        Places { bundle: Path::new("/bundle"), rootfs: Path::new("/bundle/root"), ids: None },
        None,
    )
}

#[test]
fn a_relative_bind_source_is_taken_from_the_bundle() {
    let ops = plan_json(serde_json::json!([
        {"destination": "/data", "type": "bind", "source": "d", "options": ["rbind", "ro"]}
    ]))
    .unwrap();
    let kind = MountKind::Bind { source: "/bundle/d".into(), inside: None, recursive: true, idmap: None };
    assert_eq!(ops[0].kind, kind);
    assert_eq!(ops[0].attrs.set, attr::RDONLY);
}

#[test]
fn a_read_only_tmpfs_becomes_read_only_late() {
    let ops = plan_json(serde_json::json!([
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "mode=755"]}
    ]))
    .unwrap();
    assert!(ops[0].read_only_late);
    assert_eq!(ops[0].attrs.set & attr::RDONLY, 0);
}

#[test]
fn targets_cannot_leave_the_root_by_spelling() {
    let ops = plan_json(serde_json::json!([
        {"destination": "/a/../../../etc", "type": "tmpfs"}, {"destination": "rel/x", "type": "tmpfs"}
    ]))
    .unwrap();
    assert_eq!(ops[0].target, Path::new("/etc"));
    assert_eq!(ops[1].target, Path::new("/rel/x"));
}

#[test]
fn nothing_is_mounted_inside_proc_but_the_known_files() {
    let inside = |d: &str| {
        plan_json(
            serde_json::json!([{"destination": d, "type": "bind", "source": "/x", "options": ["bind"]}]),
        )
    };
    assert!(inside("/proc/self/attr").unwrap_err().to_string().contains("inside /proc"));
    assert!(inside("/proc/../proc/sys").unwrap_err().to_string().contains("mounts[0].destination"));
    assert!(inside("/proc/uptime").is_ok());
    assert!(inside("/procfs").is_ok());
    let tmpfs = plan_json(serde_json::json!([{"destination": "/proc", "type": "tmpfs"}]));
    assert!(tmpfs.unwrap_err().to_string().contains("/proc"));
}

#[test]
fn errors_name_the_field() {
    let err = plan_json(serde_json::json!([
        {"destination": "/a", "type": "tmpfs"},
        {"destination": "/b", "type": "bind", "source": "/x", "options": ["bind", "size=1"]}
    ]))
    .unwrap_err();
    assert_eq!(
        err.to_string(),
        "invalid configuration: mounts[1].options: \"size=1\" does not apply to a bind mount"
    );
    let err = plan_json(serde_json::json!([{"destination": "", "type": "tmpfs"}])).unwrap_err();
    assert!(err.to_string().contains("mounts[0].destination"));
}

#[test]
fn an_idmapped_mount_needs_both_mappings() {
    let err = plan_json(serde_json::json!([
        {"destination": "/b", "type": "bind", "source": "/x", "options": ["bind", "idmap"]}
    ]))
    .unwrap_err();
    assert!(err.to_string().contains("uidMappings"));
}

#[test]
fn host_paths_below_the_root_filesystem_are_paths_of_the_container() {
    let json = serde_json::json!([
        {"destination": "/bundle/root/b", "type": "bind", "source": "root/x/../a"},
        {"destination": "/bundle/rootless", "type": "bind", "source": "/bundle/root"}
    ]);
    let inside = |op: &MountOp| match &op.kind {
        MountKind::Bind { inside, .. } => inside.clone(),
        other => panic!("{other:?}"),
    };
    let ops = plan_json(json.clone()).unwrap();
    assert_eq!((ops[0].target.as_path(), inside(&ops[0])), (Path::new("/b"), Some("/a".into())));
    assert_eq!((ops[1].target.as_path(), inside(&ops[1])), (Path::new("/bundle/rootless"), Some("/".into())));
    // the host's own root: every path would be below it
    let places = Places { bundle: Path::new("/bundle"), rootfs: Path::new("/"), ids: None };
    let ops = plan(&mounts(json), places, None).unwrap();
    assert_eq!((ops[0].target.as_path(), inside(&ops[0])), (Path::new("/bundle/root/b"), None));
}

#[test]
fn id_mapping_without_a_mapping_takes_the_containers() {
    let json = serde_json::json!([{"destination": "/b", "type": "bind", "source": "/s", "options": ["rbind", "ridmap"]}]);
    let error = plan_json(json.clone()).unwrap_err().to_string();
    assert!(error.starts_with("invalid configuration: mounts[0].uidMappings: "), "{error}");
    let ids = Ids::As("/proc/1/ns/user".into());
    let places = Places { bundle: Path::new("/b"), rootfs: Path::new("/b/root"), ids: Some(&ids) };
    let ops = plan(&mounts(json), places, None).unwrap();
    let MountKind::Bind { idmap, .. } = &ops[0].kind else { panic!("{ops:?}") };
    assert_eq!(*idmap, Some(IdMap { recursive: true, ids: ids.clone() }));
    // not every mount is mapped for that
    let plain = serde_json::json!([{"destination": "/b", "type": "bind", "source": "/s"}]);
    let ops = plan(&mounts(plain), places, None).unwrap();
    assert!(matches!(&ops[0].kind, MountKind::Bind { idmap: None, .. }));
}
