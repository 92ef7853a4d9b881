use super::*;

const HOST: Host = Host { apparmor: false, selinux: false };

fn base() -> serde_json::Value {
    serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"]},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}]}
    })
}

fn plan_json(json: serde_json::Value) -> Result<ContainerPlan, ConfigError> {
    plan(&serde_json::from_value(json).expect("a spec"), Path::new("/bundle"), &HOST)
}

/// Plans the base with one value replaced; `pointer` is a JSON pointer.
fn with(pointer: &str, value: serde_json::Value) -> Result<ContainerPlan, ConfigError> {
    let mut json = base();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    json.pointer_mut(parent).and_then(|p| p.as_object_mut()).expect("parent").insert(key.to_owned(), value);
    plan_json(json)
}

#[test]
fn a_minimal_container_is_planned() {
    let p = plan_json(base()).unwrap();
    assert_eq!(p.rootfs, Path::new("/bundle/rootfs"));
    assert!(p.namespaces.builds_rootfs());
}

#[test]
fn errors_name_the_field() {
    let cases = [
        ("/ociVersion", serde_json::json!("2.0.0"), "ociVersion"),
        ("/ociVersion", serde_json::json!("1.0"), "ociVersion"),
        ("/linux/rootfsPropagation", serde_json::json!("open"), "linux.rootfsPropagation"),
        ("/linux/maskedPaths", serde_json::json!(["/a", "b"]), "linux.maskedPaths[1]"),
        ("/linux/sysctl", serde_json::json!({"kernel.panic": "1"}), "linux.sysctl.kernel.panic"),
        (
            "/linux/sysctl",
            serde_json::json!({"net.ipv4.ip_forward": "1"}),
            "linux.sysctl.net.ipv4.ip_forward",
        ),
        (
            "/linux/sysctl",
            serde_json::json!({"net/../kernel/panic": "1"}),
            "linux.sysctl.net/../kernel/panic",
        ),
        (
            "/linux/uidMappings",
            serde_json::json!([{"hostID":0,"containerID":0,"size":1}]),
            "linux.uidMappings",
        ),
        (
            "/linux/devices",
            serde_json::json!([{"path":"/dev/x","type":"c","major":-1,"minor":0}]),
            "linux.devices[0].major",
        ),
        ("/linux/namespaces", serde_json::json!([{"type":"pid"}]), "linux.namespaces"),
        ("/linux/intelRdt", serde_json::json!({"closID":"x"}), "linux.intelRdt"),
        ("/process/apparmorProfile", serde_json::json!("docker-default"), "process.apparmorProfile"),
        ("/process/selinuxLabel", serde_json::json!("x:y:z"), "process.selinuxLabel"),
        ("/hooks", serde_json::json!({"poststop":[{"path":"x"}]}), "hooks.poststop[0].path"),
        (
            "/hooks",
            serde_json::json!({"createRuntime":[{"path":"/x","timeout":0}]}),
            "hooks.createRuntime[0].timeout",
        ),
    ];
    for (pointer, value, named) in cases {
        let err = with(pointer, value).expect_err(named).to_string();
        assert!(err.starts_with(&format!("invalid configuration: {named}:")), "{err}");
    }
}

#[test]
fn hostname_needs_its_own_uts_namespace() {
    let mut json = base();
    json["hostname"] = "x".into();
    assert!(plan_json(json.clone()).is_ok());
    json["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
    assert!(plan_json(json).unwrap_err().to_string().contains("private UTS namespace"));
}

#[test]
fn a_user_outside_the_mapping_is_refused() {
    let mut json = base();
    json["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "user"}]);
    let map = serde_json::json!([{"hostID": 1000, "containerID": 0, "size": 10}]);
    json["linux"]["uidMappings"] = map.clone();
    json["linux"]["gidMappings"] = map;
    assert!(plan_json(json.clone()).is_ok());
    json["process"]["user"]["uid"] = 10.into();
    assert!(plan_json(json).unwrap_err().to_string().contains("process.user.uid"));
}

#[test]
fn ids_map_by_offset_and_never_wrap() {
    let maps: Vec<LinuxIdMapping> = serde_json::from_value(serde_json::json!([
        {"hostID": 1000, "containerID": 5, "size": 10}]))
    .unwrap();
    assert_eq!(host_id(5, &maps), Some(1000));
    assert_eq!(host_id(14, &maps), Some(1009));
    assert_eq!(host_id(15, &maps), None);
    assert_eq!(host_id(4, &maps), None);
}

#[test]
fn both_spellings_of_a_sysctl_name_the_same_file() {
    let mut json = base();
    json["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "network"}]);
    json["linux"]["sysctl"] =
        serde_json::json!({"net.ipv4.conf.eth0/100.rp_filter": "1", "net/ipv4/ip_forward": "0"});
    let p = plan_json(json).unwrap();
    assert_eq!(p.sysctl[0].0, "net/ipv4/conf/eth0.100/rp_filter");
    assert_eq!(p.sysctl[1].0, "net/ipv4/ip_forward");
}
