use super::*;

fn hybrid(dir: &Path) -> Hierarchies {
    for d in ["cpu,cpuacct", "memory", "systemd", "unified"] {
        fs::create_dir(dir.join(d)).unwrap();
    }
    Hierarchies::at(dir, "4:cpu,cpuacct:/\n3:memory:/job/x\n1:name=systemd:/\n0::/\n").unwrap()
}

fn at(plan: &Plan, root: &Path, subsystem: &str) -> String {
    plan.paths().0[subsystem].strip_prefix(root).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn an_absolute_path_is_below_the_mount_point_even_where_the_caller_sits_deeper() {
    let dir = tempfile::tempdir().unwrap();
    let h = hybrid(dir.path());
    let plan = Plan::new(&h, Driver::Cgroupfs, Some(Path::new("/wharf/c1")), "c1").unwrap();
    assert_eq!(at(&plan, dir.path(), "memory"), "memory/wharf/c1");
    assert_eq!(at(&plan, dir.path(), "cpuacct"), "cpu,cpuacct/wharf/c1");
    assert_eq!(at(&plan, dir.path(), "cpu"), "cpu,cpuacct/wharf/c1");
    assert_eq!(at(&plan, dir.path(), "name=systemd"), "systemd/wharf/c1");
    assert_eq!(at(&plan, dir.path(), ""), "unified/wharf/c1");
}

#[test]
fn a_relative_path_and_no_path_are_below_the_callers_own_cgroup() {
    let dir = tempfile::tempdir().unwrap();
    let h = hybrid(dir.path());
    let plan = Plan::new(&h, Driver::Cgroupfs, Some(Path::new("rel/c1")), "c1").unwrap();
    assert_eq!(at(&plan, dir.path(), "memory"), "memory/job/x/rel/c1");
    assert_eq!(at(&plan, dir.path(), "cpu"), "cpu,cpuacct/rel/c1");
    let plan = Plan::new(&h, Driver::Cgroupfs, None, "c1").unwrap();
    assert_eq!(at(&plan, dir.path(), "memory"), "memory/job/x/c1");
}

#[test]
fn on_version_2_a_relative_path_is_beside_the_callers_own_cgroup() {
    let dir = tempfile::tempdir().unwrap();
    let h = Hierarchies::at(dir.path(), "0::/user.slice/session.scope\n").unwrap();
    let plan = Plan::new(&h, Driver::Cgroupfs, Some(Path::new("c1")), "c1").unwrap();
    assert_eq!(at(&plan, dir.path(), ""), "user.slice/c1");
}

#[test]
fn a_path_cannot_leave_the_hierarchy_or_name_its_root() {
    let dir = tempfile::tempdir().unwrap();
    let h = hybrid(dir.path());
    let plan = Plan::new(&h, Driver::Cgroupfs, Some(Path::new("/../../etc/x")), "c1").unwrap();
    assert_eq!(at(&plan, dir.path(), "cpu"), "cpu,cpuacct/etc/x");
    for root in ["/", "/a/..", "."] {
        let error = Plan::new(&h, Driver::Cgroupfs, Some(Path::new(root)), "c1").unwrap_err();
        assert!(error.to_string().contains("root of the hierarchy"), "{root}: {error}");
    }
}

#[test]
fn systemd_names_are_parsed_and_a_machine_without_it_is_told() {
    let name = SystemdName::parse(Some(Path::new("user.slice:wharf:abc")), "id").unwrap();
    assert_eq!((name.slice.as_str(), name.unit.as_str()), ("user.slice", "wharf-abc.scope"));
    let name = SystemdName::parse(None, "id").unwrap();
    assert_eq!((name.slice.as_str(), name.unit.as_str()), ("", "runc-id.scope"));
    for bad in ["/a/b", "a:b", "a:b:c:d", "a:b:", "a/b:c:d"] {
        assert!(SystemdName::parse(Some(Path::new(bad)), "id").is_err(), "{bad}");
    }
    let dir = tempfile::tempdir().unwrap();
    let h = hybrid(dir.path());
    let error = Plan::new(&h, Driver::Systemd, Some(Path::new("a--b.slice:x:y")), "c1").unwrap_err();
    assert!(error.to_string().contains("not the name of a slice"), "{error}");
    if !Path::new(SYSTEMD_RUNS).is_dir() {
        let error = Plan::new(&h, Driver::Systemd, None, "c1").unwrap_err();
        assert!(error.to_string().starts_with("systemd cgroup manager is not available: "), "{error}");
    }
}
